"""R23: a worker of a DataLoader that dies, raises or hangs: an error that names it, and nothing left behind."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
from torch.utils.data import Dataset, get_worker_info

from ignite_core.engine import Engine, Events
from tests.engine.scripts import Item, Samples, augmented, loader, one_thread
from tests.faults.sizes import FULL

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
one_thread = pytest.fixture(autouse=True)(one_thread)


class Failing(Dataset[Item]):
    """A dataset one of whose samples is the end of its worker, while the file is not there."""

    def __init__(self, how: str, mended: Any) -> None:
        self.how = how
        self.mended = mended

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Item:
        if index == 13 and not self.mended.exists():
            assert get_worker_info() is not None
            if self.how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.how == "hangs":
                time.sleep(3600)
            raise OSError("bad sector")
        return augmented(index)


@pytest.fixture(autouse=True)
def no_orphans() -> Iterator[None]:
    before = set(multiprocessing.active_children())
    yield
    gc.collect()  # a socket that torch leaves open when a worker dies is told of here, not in another test
    assert set(multiprocessing.active_children()) - before == set()


@pytest.mark.parametrize(
    ("how", "options", "error", "message"),
    [
        ("killed", {}, RuntimeError, r"DataLoader worker \(pid\(?s?\)? ?\(?\d+\)?.*"),
        ("raises", {}, OSError, r"(?s)Caught OSError in DataLoader worker process [01].*bad sector"),
        ("hangs", {"timeout": 2}, RuntimeError, r"DataLoader timed out after 2 seconds"),
    ],
    ids=["killed", "raises", "hangs"],
)
@pytest.mark.parametrize("seed", [1, *([None] if FULL else [])])
def test_a_worker_that_fails_ends_the_run_with_its_name(
    how: str, options: Any, error: Any, message: str, seed: int | None, tmp_path: Any
) -> None:
    """Within ten seconds (of a hang: within the time limit of the loader); resumed, the run sees the rest."""
    ids: list[int] = []
    engine = Engine(lambda engine, batch: ids.extend(batch[1].flatten().long().tolist()))
    mended = tmp_path / "mended"
    data = loader(2, Failing(how, mended), **options)
    heard: list[str] = []
    engine.add_event_handler(Events.EXCEPTION_RAISED, lambda error: heard.append(repr(error)))

    began = time.monotonic()
    with pytest.raises(error, match=message) as caught:
        engine.run(data, seed=seed)
    assert time.monotonic() - began < 10

    assert heard == [repr(caught.value)]
    (note,) = caught.value.__notes__
    assert note.startswith("Raised by the data, epoch 1, iteration")
    traceback.clear_frames(caught.tb)  # they hold what torch has running until then
    assert 13 not in ids
    if seed is not None:
        mended.touch()
        other = Engine(lambda engine, batch: ids.extend(batch[1].flatten().long().tolist()))
        other.load_state_dict(engine.state_dict())
        other.run(loader(2, Failing(how, mended)))
        assert sorted(ids) == list(range(20))


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("end", ["done", "terminate", "raise"])
def test_workers_end_with_the_run_also_with_a_seed(seed: int | None, end: str) -> None:
    engine = Engine(lambda engine, batch: 1 / 0 if end == "raise" and engine.state.iteration == 2 else None)
    if end == "terminate":
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), engine.terminate)
    data = loader(2, Samples())
    before = set(multiprocessing.active_children())

    if end == "raise":
        with pytest.raises(ZeroDivisionError):
            engine.run(data, seed=seed)
    else:
        engine.run(data, seed=seed)

    assert set(multiprocessing.active_children()) - before == set()
