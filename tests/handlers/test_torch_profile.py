"""Some iterations are profiled and written as traces; the others cost nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ignite_core.engine import Engine, Events
from ignite_core.handlers import TorchProfile

WRONG: Any = TorchProfile


def step(engine: Engine, batch: int) -> Any:
    with torch.profiler.record_function(f"batch {batch}"):
        return torch.ones(2) + batch


def batches_in(path: Path) -> list[int]:
    events = json.loads(path.read_text())["traceEvents"]
    return sorted({int(event["name"].split()[1]) for event in events if str(event.get("name")).startswith("batch ")})


def test_each_cycle_is_written(tmp_path: Path) -> None:
    engine = Engine(step)
    profile = TorchProfile(tmp_path, wait=1, warmup=1, active=2, repeat=2, skip_first=1)
    profile.attach(engine)

    engine.run(range(1, 13))

    assert [path.name for path in profile.paths] == ["trace_rank0_1.json", "trace_rank0_2.json"]
    assert [batches_in(path) for path in profile.paths] == [[4, 5], [8, 9]]
    assert not engine.has_event_handler(profile._step), "nothing is called once all is written"


def test_a_run_that_raises_writes_what_there_is(tmp_path: Path) -> None:
    engine = Engine(step)
    profile = TorchProfile(tmp_path, wait=0, warmup=1, active=5)
    profile.attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        engine.run(range(1, 10))

    assert [batches_in(path) for path in profile.paths] == [[2, 3]]


def test_each_run_is_profiled(tmp_path: Path) -> None:
    engine = Engine(step)
    profile = TorchProfile(tmp_path, wait=0, warmup=1, active=1)
    profile.attach(engine)

    engine.run([1, 2])
    engine.run([3, 4])

    assert [batches_in(path) for path in profile.paths] == [[2], [4]]


def test_arguments_of_the_profiler(tmp_path: Path) -> None:
    engine = Engine(step)
    profile = TorchProfile(tmp_path, wait=0, warmup=1, active=1, record_shapes=True)
    profile.attach(engine)
    engine.run([1, 2])

    assert "Input Dims" in profile.paths[0].read_text()


@pytest.mark.parametrize("batches", [2, 3, 9])
def test_a_trace_that_cannot_be_written_is_an_error(tmp_path: Path, batches: int) -> None:
    (tmp_path / "file").write_text("")
    engine = Engine(step)
    TorchProfile(tmp_path / "file" / "folder", wait=0, warmup=1, active=2).attach(engine)

    with pytest.raises(NotADirectoryError):
        engine.run(range(batches))


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="active must be at least 1"):
        TorchProfile(tmp_path, active=0)
    with pytest.raises(TypeError, match="wait must be an integer"):
        WRONG(tmp_path, wait=0.5)
    with pytest.raises(TypeError, match="engine must be an Engine"):
        WRONG(tmp_path).attach("engine")
