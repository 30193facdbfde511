"""Checkpoints that all ranks write together: each its part of what is spread over them, in a folder.

In the folder stand the files of torch.distributed.checkpoint: ``*.distcp`` hold the parts of the tensors that are
spread, ``.metadata`` is for other tools. Everything else is in ``common.pt``, with where each part belongs and stands:
what is pickled in ``.metadata`` can run any code, so it is never read here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, TypeVar

import torch

from ignite_core.distributed import utils as idist
from ignite_core.distributed.collectives import disagreement
from ignite_core.distributed.failures.api import agreed, is_agreed
from ignite_core.exceptions import CheckpointError
from ignite_core.handlers.checkpoint.ranks import caught, share
from ignite_core.handlers.checkpoint.savers import DiskSaver
from ignite_core.handlers.checkpoint.sharded import dtensor_type, mapped
from ignite_core.handlers.checkpoint.storage import commit as storage
from ignite_core.handlers.checkpoint.storage.hashing import original_errors
from ignite_core.handlers.checkpoint.storage.plain_values import check_loadable

__all__ = ["COMMON", "DCPSaver", "Part"]

#: The file of everything that is not spread over the ranks.
COMMON = "common.pt"

#: Where a part of a tensor begins in it, its shape; in which file it stands, from which byte on, and how many.
Part: TypeAlias = tuple[list[int], list[int], str, int, int]

T = TypeVar("T")


class DCPSaver(DiskSaver):
    """Saves a sharded model (FSDP2) without putting it together: every rank writes its part of it.

    A checkpoint is a folder. It appears under its name, with ``NAME.json`` beside it, when the parts of all ranks are
    on the disk, which all ranks see (it is shared). It can be loaded on any number of ranks, into a sharded model or a
    plain one, with ``resume`` or ``Checkpoint.load_objects``. The save is synchronous: all ranks wait until it is
    complete; if one of them fails, all raise, and nothing is changed.

    Args:
        dirname: The folder that the checkpoints are in.
        options: The other arguments of :class:`~ignite_core.handlers.DiskSaver`.

    Example:
        >>> import os, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     saver = DCPSaver(folder)
        ...     saver({"weights": torch.ones(2)}, "run_10")
        ...     sorted(os.listdir(folder)), os.listdir(os.path.join(folder, "run_10"))
        (['run_10', 'run_10.json'], ['common.pt'])
    """

    saves_on_every_rank: ClassVar[bool] = True

    def __call__(self, checkpoint: Mapping[str, Any], filename: str, metadata: Mapping[str, Any] | None = None) -> None:
        """Write a folder. All ranks call it, each with its own state.

        Raises:
            CheckpointError: On all ranks, if one of them failed; it says which, and with what.
        """
        about = {"world_size": idist.get_world_size(), **self._about(metadata)}
        save = _Save(self._target(filename), about)
        error: Exception | None = None
        try:
            save.state = self._plain(checkpoint, save.path, about)
            save.lead() if idist.get_rank() == 0 else save.follow()
        except Exception as failure:
            error = caught(failure)
        share(save.what, error, None)

    def remove(self, filename: str) -> None:
        """Remove a checkpoint. All ranks call it.

        Raises:
            CheckpointError: On all ranks, if the disk refuses.
        """
        path, error = self._path(filename), None
        if idist.get_rank() == 0 and filename != self._spared:
            try:
                storage.remove(path)
            except CheckpointError as failure:
                error = failure
        share(f"DCPSaver: {path} was not removed", error, None)


class _Save:
    """One save. A rank that fails at any step tells so when the others next exchange something, and all raise."""

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.what = f"DCPSaver: {path} (step {about.get('step')}) was not saved, older checkpoints stand"
        self.state: Any = None
        self.path, self._about = path, about
        self._agreed: CheckpointError | None = None

    def lead(self) -> None:
        """What rank 0 does: it makes the folder, and commits it when all have written."""
        try:
            storage.publish_folder(self.path, self._fill, self._about)
        except Exception:
            if self._agreed is not None:  # the others have raised it, whatever cleaning up has met since
                raise self._agreed from None
            raise

    def follow(self) -> None:
        """What the others do."""
        self._write(Path(self._exchange("")[0]))

    def _fill(self, folder: Path) -> None:
        try:
            self._exchange(str(folder.absolute()))
            self._write(folder)
        except CheckpointError as error:
            self._agreed = error if is_agreed(error) else None
            raise

    @original_errors()
    def _write(self, folder: Path) -> None:
        common, spread = _split(self.state)
        difference = disagreement(self._exchange(list(spread)))
        if difference is not None:  # every rank sees it
            raise agreed(CheckpointError(f"{self.what}: all ranks must save the same tensors, but {difference}"))
        parts = self._write_spread(folder, spread) if spread else {}
        if idist.get_rank() == 0:
            places = [(*place, parts[place[1]]) for place in common["spread"]]
            with (folder / COMMON).open("xb+") as file:
                torch.save({"state": common["state"], "spread": places}, file)
                file.flush()
                self._check(file.fileno())

    def _check(self, fd: int) -> None:
        try:
            check_loadable(fd)
        except CheckpointError as error:
            step = self._about.get("step")
            raise CheckpointError(f"{self.path} (step {step}): is not saved, as it {error}") from error

    def _write_spread(self, folder: Path, spread: dict[str, Any]) -> dict[str, list[Part]]:
        """The steps of torch.distributed.checkpoint, with an exchange of ours after each.

        Returns:
            On rank 0, which parts there are of each tensor.
        """
        # slow to import
        from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
        from torch.distributed.checkpoint.filesystem import FileSystemWriter

        is_leader = idist.get_rank() == 0
        planner, writer = DefaultSavePlanner(flatten_state_dict=False), FileSystemWriter(folder)
        planner.set_up_planner(spread, writer.storage_meta(), is_leader)
        writer.set_up_storage_writer(is_leader)
        plans = self._exchange(writer.prepare_local_plan(planner.create_local_plan()))
        of_ranks: Any = None
        metadata: Any = None
        if is_leader:
            of_ranks, metadata = planner.create_global_plan(plans)
            of_ranks = writer.prepare_global_plan(of_ranks)
        mine = self._exchange(of_ranks)[0][idist.get_rank()]
        written = writer.write_data(planner.finish_plan(mine), planner)
        written.wait()
        results = self._exchange(written.value())
        if not is_leader:
            return {}
        writer.finish(metadata, results)
        return _parts(metadata, results)

    def _exchange(self, value: T) -> list[T]:
        return share(self.what, None, value)


def _split(state: Any) -> tuple[Any, dict[str, Any]]:
    """A state in two parts: what is not spread, with the places of the rest; and that, by names of one level."""
    kind = dtensor_type()
    spread: dict[str, Any] = {}
    places: list[tuple[list[Any], str, list[int], str]] = []

    def taken_out(path: tuple[Any, ...], leaf: Any) -> Any:
        if kind is None or not isinstance(leaf, kind):
            return leaf
        name = ".".join(map(str, path))
        while name in spread:  # keys may have dots too
            name += "'"
        spread[name] = leaf.detach()
        places.append((list(path), name, list(leaf.shape), str(leaf.dtype).removeprefix("torch.")))
        return None

    return {"state": mapped(taken_out, state), "spread": places}, spread


def _parts(metadata: Any, results: list[list[Any]]) -> dict[str, list[Part]]:
    stored = {(one.index.fqn, one.index.offset): one.storage_data for of_rank in results for one in of_rank}
    parts: dict[str, list[Part]] = {}
    for name, tensor in metadata.state_dict_metadata.items():
        parts[name] = []
        for chunk in tensor.chunks:
            place = stored[name, chunk.offsets]
            where = (place.relative_path, place.offset, place.length)
            parts[name].append((list(chunk.offsets), list(chunk.sizes), *where))
    return parts
