"""What every back-end has in common: who attaches what, on which rank, and when it is flushed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

import ignite_core.distributed as idist
from ignite_core.engine import Engine, Events
from ignite_core.handlers import BaseLogger, OptimizerParamsHandler, OutputHandler, WeightsHistHandler
from ignite_core.testing import run_distributed


class Book(BaseLogger):
    """Writes everything down, and when it was flushed."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.rows: list[Any] = []

    def scalars(self, step: int, values: Mapping[tuple[str, ...], Any]) -> None:
        self.rows.append((step, {"/".join(key): value for key, value in values.items()}))

    def flush(self) -> None:
        self.rows.append("flushed")

    def close(self) -> None:
        self.rows.append("closed")


def echo() -> Engine:
    return Engine(lambda engine, batch: batch)


def everything(output: Any) -> Any:
    return output


# --- attaching ---


def test_a_function_is_a_handler_too() -> None:
    """As they are written for pytorch-ignite: engine, logger and event, then whatever was given."""
    calls = []

    def handler(engine: Engine, logger: BaseLogger, event_name: Any, *args: Any, **kwargs: Any) -> None:
        calls.append((engine, logger, event_name, args, kwargs))

    engine, book = echo(), Book()
    book.attach(engine, handler, Events.ITERATION_COMPLETED(every=2), 1, option=2)
    engine.run([0, 0])

    assert calls == [(engine, book, Events.ITERATION_COMPLETED, (1,), {"option": 2})]


def test_several_events_call_one_handler_each_with_its_own() -> None:
    engine, book, events = echo(), Book(), []
    handle = book.attach(
        engine,
        lambda engine, logger, event: events.append(event),
        Events.STARTED | Events.ITERATION_COMPLETED(once=2) | Events.COMPLETED,
    )
    engine.run([0, 0, 0])
    assert events == [Events.STARTED, Events.ITERATION_COMPLETED, Events.COMPLETED]

    handle.remove()
    engine.run([0, 0, 0])
    assert len(events) == 3


def test_a_handle_removes_one_registration_alone() -> None:
    engine, book = echo(), Book()
    handler = OutputHandler("tag", output_transform=everything)
    first = book.attach(engine, handler, Events.ITERATION_COMPLETED)
    book.attach(engine, handler, Events.ITERATION_COMPLETED)
    first.remove()
    engine.run([5])

    assert [row for row in book.rows if row != "flushed"] == [(1, {"tag/output": 5})]


def test_the_short_forms_attach_the_handlers_of_the_core() -> None:
    engine, book = echo(), Book()
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.5)
    book.attach_output_handler(engine, Events.ITERATION_COMPLETED, tag="tag", output_transform=everything)
    book.attach_opt_params_handler(engine, Events.ITERATION_STARTED, optimizer=optimizer, tag="tag")
    book.attach_opt_params_handler(engine, Events.EPOCH_STARTED, optimizer, "momentum")
    engine.run([5])

    assert book.rows[:3] == [
        (1, {"momentum/group_0": 0}),
        (1, {"tag/lr/group_0": 0.5}),
        (1, {"tag/output": 5}),
    ]


class Ported(BaseLogger):
    """As loggers of one's own are written for pytorch-ignite; it does not even call ``__init__``."""

    def __init__(self) -> None:
        self.made: list[Any] = []

    def _create_output_handler(self, *args: Any, **kwargs: Any) -> Any:
        self.made.append(("output", args, kwargs))
        return lambda engine, logger, event_name: self.made.append((engine.state.output, event_name))

    def _create_opt_params_handler(self, *args: Any, **kwargs: Any) -> Any:
        self.made.append(("optimizer", args, kwargs))
        return lambda engine, logger, event_name: None


def test_a_ported_logger_makes_its_own_handlers() -> None:
    engine = echo()
    with Ported() as logger:
        logger.attach_output_handler(engine, Events.ITERATION_COMPLETED, "tag", metric_names="all")
        logger.attach_opt_params_handler(engine, Events.ITERATION_COMPLETED, optimizer=3)
        engine.run([5])

    assert logger.made == [
        ("output", ("tag",), {"metric_names": "all"}),
        ("optimizer", (), {"optimizer": 3}),
        (5, Events.ITERATION_COMPLETED),
    ]


def test_a_ported_handler_of_ones_own_derives_from_that_of_the_core() -> None:
    class Rounded(OutputHandler):
        def __call__(self, engine: Engine, logger: Any, event_name: Any) -> None:
            step = self.global_step_transform(engine, event_name)
            logger.scalars(step, {(self.tag,): round(engine.state.output)})

    engine, book = echo(), Book()
    book.attach(engine, Rounded("tag", output_transform=everything), Events.ITERATION_COMPLETED)
    engine.run([2.7])

    assert book.rows[0] == (1, {"tag": 3})


def test_what_a_back_end_does_not_take_is_refused_when_it_is_attached() -> None:
    with pytest.raises(TypeError, match=r"WeightsHistHandler.* logs histograms, but there is no Book.histograms\(step"):
        Book().attach(echo(), WeightsHistHandler(nn.Linear(1, 1)), Events.EPOCH_COMPLETED)


def test_an_event_that_the_engine_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing"):
        Book().attach(echo(), OutputHandler("tag", "all"), "nothing")


# --- the client ---


def test_what_the_client_has_is_found_through_the_logger() -> None:
    class Client:
        name = "client"

        def note(self, text: str) -> str:
            return f"noted {text}"

    book = Book(Client)
    assert (book.name, book.note("it")) == ("client", "noted it")
    with pytest.raises(AttributeError, match="'Client' object has no attribute 'other'"):
        _ = book.other
    with pytest.raises(AttributeError, match="'Book' object has no attribute 'other'"):
        _ = Book().other


def log_on_a_rank() -> tuple[int, list[Any], list[Any], Any]:
    opened: list[Any] = []

    class Client:
        def note(self, text: str) -> str:
            return text

    def open_client() -> Client:
        opened.append("opened")
        return Client()

    engine = Engine(lambda engine, batch: batch)
    book = Book(open_client)
    book.attach_output_handler(engine, Events.ITERATION_COMPLETED, tag="tag", output_transform=lambda output: output)
    engine.run([5])
    return idist.get_rank(), opened, book.rows, book.note("it") == "it"


def test_rank_0_alone_opens_a_client_and_writes() -> None:
    assert run_distributed(log_on_a_rank, ranks=2) == [
        (0, ["opened"], [(1, {"tag/output": 5}), "flushed"], True),
        (1, [], [], False),
    ]


# --- the end ---


@pytest.mark.parametrize(
    ("leave", "error"),
    [(None, None), (Engine.terminate, None), (Engine.interrupt, None), ("fail", RuntimeError)],
    ids=["done", "terminate", "interrupt", "exception"],
)
def test_it_is_flushed_when_a_run_ends_after_the_last_value(leave: Any, error: Any) -> None:
    engine, book = echo(), Book()
    book.attach_output_handler(engine, Events.ITERATION_COMPLETED, tag="tag", output_transform=everything)

    def end(engine: Engine) -> None:
        if leave == "fail":
            raise RuntimeError("bad batch")
        if leave is not None:
            leave(engine)

    engine.add_event_handler(Events.ITERATION_COMPLETED(priority=-5000), end)
    if error is None:
        engine.run([5])
    else:
        with pytest.raises(error, match="bad batch"):
            engine.run([5])

    assert book.rows[0] == (1, {"tag/output": 5})
    assert set(book.rows[1:]) == {"flushed"}


def test_what_is_logged_at_the_very_end_is_flushed_too() -> None:
    engine, book = echo(), Book()
    book.attach_output_handler(engine, Events.COMPLETED, tag="tag", output_transform=everything)
    engine.run([5])

    assert book.rows == [(1, {"tag/output": 5}), "flushed"]


def test_an_evaluation_within_a_run_is_no_end() -> None:
    trainer, evaluator, book = echo(), echo(), Book()
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([7]))
    book.attach_output_handler(evaluator, Events.COMPLETED, tag="tag", output_transform=everything)
    book.attach_output_handler(trainer, Events.COMPLETED, tag="tag", output_transform=everything)
    trainer.run([5], max_epochs=2)

    assert [row for row in book.rows if row == "flushed"] == ["flushed"]


def test_an_error_of_the_engine_is_not_hidden_by_the_end_of_the_block() -> None:
    engine, book = echo(), Book()
    engine.add_event_handler(Events.STARTED, lambda: 1 / 0)
    book.attach_output_handler(engine, Events.COMPLETED, tag="tag", output_transform=everything)
    with pytest.raises(ZeroDivisionError), book:
        engine.run([5])

    assert book.rows[-1] == "closed"


def test_handlers_are_attached_to_many_engines_with_one_logger() -> None:
    first, second, book = echo(), echo(), Book()
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.5)
    for engine in (first, second):
        book.attach(engine, OptimizerParamsHandler(optimizer), Events.COMPLETED)
        engine.run([5])

    assert book.rows == [(1, {"lr/group_0": 0.5}), "flushed"] * 2
