"""The engine, its events and its state; trainers and evaluators for the usual case."""

from ignite_core.engine.deterministic import DeterministicEngine
from ignite_core.engine.engine import Engine
from ignite_core.engine.events import CallableEventWithFilter, EventEnum, Events, EventsList
from ignite_core.engine.registration import Registration, RemovableEventHandle, RemovableHandle
from ignite_core.engine.state import State
from ignite_core.engine.supervised.factories import (
    create_supervised_evaluator,
    create_supervised_trainer,
    supervised_evaluation_step,
    supervised_evaluation_step_amp,
    supervised_training_step,
    supervised_training_step_amp,
)
from ignite_core.engine.supervised.step import Step, StepEvents

__all__ = [
    "CallableEventWithFilter",
    "DeterministicEngine",
    "Engine",
    "EventEnum",
    "Events",
    "EventsList",
    "Registration",
    "RemovableEventHandle",
    "RemovableHandle",
    "State",
    "Step",
    "StepEvents",
    "create_supervised_evaluator",
    "create_supervised_trainer",
    "supervised_evaluation_step",
    "supervised_evaluation_step_amp",
    "supervised_training_step",
    "supervised_training_step_amp",
]
