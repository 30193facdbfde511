"""The engine, its events and its state."""

from ignite_core.engine.deterministic import DeterministicEngine
from ignite_core.engine.dispatch import RemovableEventHandle
from ignite_core.engine.engine import Engine
from ignite_core.engine.events import CallableEventWithFilter, EventEnum, Events, EventsList
from ignite_core.engine.state import State

__all__ = [
    "CallableEventWithFilter",
    "DeterministicEngine",
    "Engine",
    "EventEnum",
    "Events",
    "EventsList",
    "RemovableEventHandle",
    "State",
]
