"""Sharded checkpoints: all ranks write their shards into one folder.

The folder has the files of torch.distributed.checkpoint: ``*.distcp`` contain the shards, ``.metadata`` is for other
tools. Everything else is in ``common.pt``, with the place of each shard: ``.metadata`` is a pickle that can run any
code, so it is never read by ignite_core.
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

#: The file of everything that is not sharded.
COMMON = "common.pt"

#: A shard: its offsets in the tensor, its shape; its file, the first byte there, and the number of bytes.
Part: TypeAlias = tuple[list[int], list[int], str, int, int]

T = TypeVar("T")


class DCPSaver(DiskSaver):
    """Saves a sharded model (FSDP2) without gathering it: every rank writes its shards.

    A checkpoint is a folder. It appears under its name, with ``NAME.json`` beside it, when the shards of all ranks are
    on the disk, which all ranks must share. It can be loaded on any number of ranks, into a sharded model or a plain
    one, with ``resume`` or ``Checkpoint.load_objects``. The save is synchronous: all ranks wait until it is complete;
    if one of them fails, all raise, and nothing is changed.

    Args:
        dirname: The folder of the checkpoints.
        options: Further arguments of :class:`~ignite_core.handlers.DiskSaver`.

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
        """Write a folder. All ranks must call it, each with its state.

        Raises:
            CheckpointError: On all ranks, if one of them failed, with its number and its error.
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
        """Remove a checkpoint. All ranks must call it.

        Raises:
            CheckpointError: On all ranks, if the disk fails.
        """
        path, error = self._path(filename), None
        if idist.get_rank() == 0 and filename != self._spared:
            try:
                storage.remove(path)
            except CheckpointError as failure:
                error = failure
        share(f"DCPSaver: {path} was not removed", error, None)


class _Save:
    """One save. If a rank fails at any step, the next exchange reports it, and all ranks raise."""

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.what = f"DCPSaver: {path} (step {about.get('step')}) was not saved, older checkpoints stay"
        self.state: Any = None
        self.path, self._about = path, about
        self._agreed: CheckpointError | None = None

    def lead(self) -> None:
        """Rank 0: create the folder, and commit it when all ranks have written."""
        try:
            storage.publish_folder(self.path, self._fill, self._about)
        except Exception:
            if self._agreed is not None:  # the others have raised it, whichever error cleaning up has caused since
                raise self._agreed from None
            raise

    def follow(self) -> None:
        """Other ranks: write into the folder of rank 0."""
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
        """The steps of torch.distributed.checkpoint, with an exchange after each.

        Returns:
            On rank 0, the shards of each tensor.
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
    """Split a state: what is not sharded, with the places of the sharded tensors; and these by flat names."""
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
