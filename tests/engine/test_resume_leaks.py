"""R31: cutting, saving, loading and resuming leaves nothing behind, however often."""

from __future__ import annotations

import gc
import io
import multiprocessing
import os
import threading
import weakref
from itertools import pairwise
from typing import Any

import pytest
import torch

from ignite_core.engine import Engine, Events
from tests.engine.scripts import Samples, Script, loader, one_thread
from tests.faults.sizes import sized

one_thread = pytest.fixture(autouse=True)(one_thread)


def cut_and_resume(script: Script, data: Any) -> None:
    """Save inside an epoch and a window, load that into the same trainer, and run to the end; listen in between."""
    trainer, file = script.trainer, io.BytesIO()
    handle = trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2), trainer.terminate)
    trainer.state.max_epochs = None
    trainer.run(data, max_epochs=1, seed=1)
    torch.save({name: one.state_dict() for name, one in script.to_save.items()}, file)
    handle.remove()
    file.seek(0)
    for name, state in torch.load(file, weights_only=True).items():
        script.to_save[name].load_state_dict(state)
    trainer.run(data)
    script.ids.clear()
    script.losses.clear()


def resources() -> tuple[int, int, int, int]:
    """Objects, open files, threads, and bytes of memory of this process."""
    gc.collect()
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return len(gc.get_objects()), len(os.listdir("/proc/self/fd")), threading.active_count(), resident


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="looks into /proc")
@pytest.mark.parametrize("num_workers", [0, 1])
def test_saving_loading_and_resuming_often_leaves_nothing_behind(num_workers: int) -> None:
    script, data = Script(accumulation=3), loader(num_workers)
    times = sized(20, 250) if num_workers == 0 else sized(2, 25)
    for _ in range(5):
        cut_and_resume(script, data)
    measured = [resources()]
    for _ in range(2):
        for _ in range(times):
            cut_and_resume(script, data)
        measured.append(resources())

    assert {(files, threads) for _, files, threads, _ in measured} == {measured[0][1:3]}
    if num_workers == 0:  # of what workers send torch keeps weak references for a while
        objects, _, _, resident = zip(*measured, strict=True)
        assert least_growth(objects) < times  # less than one each time
        assert least_growth(resident) < 2**20


def least_growth(values: tuple[int, ...]) -> int:
    """What leaks grows each time; what other tests have left, and caches, grow once or shrink."""
    return min(after - before for before, after in pairwise(values))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_loader_is_freed_by_its_last_reference(num_workers: int) -> None:
    """Nobody else keeps it, its copy, or the workers that stay with it."""
    gc.collect()
    gc.disable()
    before = set(multiprocessing.active_children())
    try:
        dataset = Samples()
        data = loader(num_workers, dataset, persistent_workers=num_workers > 0)
        engine = Engine(lambda engine, batch: None)
        engine.run(data, seed=1)
        dead = [weakref.ref(one) for one in (dataset, data, data.sampler)]

        del engine, data, dataset
        assert [one() for one in dead] == [None] * 3
        assert set(multiprocessing.active_children()) - before == set()
    finally:
        gc.enable()
