"""Read the folders of :class:`~ignite_core.handlers.DCPSaver`, on any number of ranks: each reads its shards."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from ignite_core.distributed import utils as idist
from ignite_core.exceptions import CheckpointError
from ignite_core.handlers.checkpoint.dcp_saver import COMMON, Part
from ignite_core.handlers.checkpoint.ranks import caught, share
from ignite_core.handlers.checkpoint.sharded import Layout, mapped
from ignite_core.handlers.checkpoint.states import Wrappers, by_name, paired, unwrapped
from ignite_core.handlers.checkpoint.storage.load import load_open, verify_checkpoint
from ignite_core.handlers.checkpoint.storage.manifest import open_file
from ignite_core.handlers.checkpoint.storage.safety import check
from ignite_core.handlers.checkpoint.storage.scan import FileDigest, Verify, check_file, data_path, find_manifest

__all__ = ["read_folder"]


def read_folder(path: Path, objects: Mapping[str, Any], *, verify: Verify = "full", is_verified: bool = False) -> Any:
    """The states of objects, sharded as the objects are now. All ranks must call it.

    Rank 0 compares all files with the manifest; each rank compares the files that it reads, which may be on a local
    disk. The objects are not changed.

    Args:
        path: The folder; the same on all ranks.
        objects: Objects by name. Of a sharded one each rank reads its shards, of another one everything; sharded
            tensors of objects that are not given are None.
        verify: ``"full"`` compares every byte, ``"size"`` sizes only.
        is_verified: Rank 0 has compared every byte already.

    Raises:
        CheckpointError: If the folder is damaged, not safe, or does not fit; on several ranks all raise it.
    """
    states = None
    folder: tuple[Path, dict[str, FileDigest]] = (path, {})
    error: Exception | None = None
    try:
        if idist.get_rank() == 0:
            folder = _verified(path, "size" if is_verified else verify)
    except CheckpointError as failure:
        error = failure
    place, digests = share(f"{path} was not loaded", error, folder)[0]
    try:
        with closing(_Folder(place, digests, verify)) as opened:
            states = opened.read(objects)
    except Exception as failure:
        error = caught(failure)
    share(f"{path} was not loaded", error, None)
    return states


def _verified(path: Path, verify: Verify) -> tuple[Path, dict[str, FileDigest]]:
    """Where the files are (a dead save may have left them under another name), and their digests."""
    manifest = find_manifest(path)
    if manifest is None or manifest.kind != "folder":
        raise CheckpointError(f"{path}: is no folder that DCPSaver has written")
    verify_checkpoint(path, verify)
    return data_path(path.parent, manifest), dict(manifest.files)


class _ShardedTensor:
    """A sharded tensor in a state, before it is read."""

    def __init__(self, name: str, shape: list[int], dtype: str, parts: list[Part]) -> None:
        self.name, self.shape, self.parts = name, tuple(shape), parts
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.tensor: Tensor | None = None
        if not isinstance(self.dtype, torch.dtype) or not isinstance(name, str) or not _are_sizes(shape):
            raise TypeError(f"{name!r} has shape {shape!r:.100} and is of {dtype!r:.100}")
        for begin, size, file, offset, length in parts:
            ends = zip(begin, size, shape, strict=True)
            is_within = _are_sizes([*begin, *size, offset, length]) and all(at + n <= all_ for at, n, all_ in ends)
            if not is_within or not isinstance(file, str):
                raise ValueError(f"a part of {name!r} at {begin!r:.100} is not within it")

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def allocate(self, layout: Layout, path: tuple[Any, ...]) -> None:
        """Allocate it, or this rank's shards of it if the object is sharded."""
        like = layout.like(path, self.shape)
        if like is None:
            self.tensor = torch.zeros(self.shape, dtype=self.dtype)
            return
        from torch.distributed.tensor import zeros  # loaded already: `like` is a DTensor

        mesh, placements = like.device_mesh, like.placements
        self.tensor = zeros(self.shape, dtype=self.dtype, device_mesh=mesh, placements=placements)


def _are_sizes(values: Any) -> bool:
    return all(type(value) is int and 0 <= value < 2**63 for value in values)


class _Folder:
    """A folder, of which one file is open at a time: the bytes that are verified are the bytes that are read."""

    def __init__(self, path: Path, digests: Mapping[str, FileDigest], verify: Verify) -> None:
        self._path, self._digests, self._verify = path, digests, verify
        self._name, self._fd = "", -1

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._name, self._fd = "", -1

    def _open(self, name: str) -> int:
        """Open a file of the checkpoint, and verify it."""
        place = self._path / name
        if name not in self._digests:
            raise CheckpointError(f"{place}: is no file of this checkpoint")
        if name != self._name:
            self.close()
            self._fd = open_file(place)
            check_file(self._fd, place, self._digests[name], self._verify)
            self._name = name
        return self._fd

    def read(self, objects: Mapping[str, Any]) -> Any:
        saved = _load_checked(self._open(COMMON), self._path / COMMON)
        try:
            spread = {tuple(place): _ShardedTensor(*facts) for place, *facts in saved["spread"]}
            tree = mapped(lambda path, leaf: spread.get(path, leaf), saved["state"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"{self._path / COMMON}: is not what DCPSaver writes: {error}") from error
        self._check_size(spread.values())
        for _, obj, state in paired(objects, by_name(objects, tree), self._path.name):
            _allocate(unwrapped(obj), state)
        self._fill({one.name: one for one in spread.values() if one.tensor is not None})
        return mapped(lambda path, leaf: leaf.tensor if isinstance(leaf, _ShardedTensor) else leaf, tree)

    def _check_size(self, spread: Any) -> None:
        """The tensors must not be larger than the files."""
        there = sum(file.size for name, file in self._digests.items() if name.endswith(".distcp"))
        needed = sum(one.bytes for one in spread)
        if needed > there:
            raise CheckpointError(f"{self._path}: its tensors need {needed} bytes, its files have {there}")

    def _fill(self, wanted: Mapping[str, _ShardedTensor]) -> None:
        """Read the shards of this rank."""
        if not wanted:
            return
        from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner  # slow to import

        parts = {(name, tuple(part[0])): part for name, one in wanted.items() for part in one.parts}
        planner = DefaultLoadPlanner(flatten_state_dict=False)
        try:
            planner.set_up_planner({name: one.tensor for name, one in wanted.items()}, _metadata(wanted), True)
            plan = planner.finish_plan(planner.create_global_plan([planner.create_local_plan()])[0])
            _check_complete(plan, wanted)
            for item, tensor in self._parts(plan, parts):
                room = planner.resolve_tensor(item)
                room.detach().copy_(tensor)
                planner.commit_tensor(item, room)
        except (KeyError, TypeError, ValueError, RuntimeError, AssertionError, OSError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"{self._path}: its parts do not fit together: {error}") from error

    def _parts(self, plan: Any, parts: Mapping[Any, Part]) -> Iterator[tuple[Any, Tensor]]:
        """Each item of the plan with its values; a shard that several items need is read once."""
        places = {id(item): parts[item.storage_index.fqn, tuple(item.storage_index.offset)] for item in plan.items}
        known, whole = None, torch.empty(0)
        for item in sorted(plan.items, key=lambda item: places[id(item)][2:]):
            part = places[id(item)]
            if part is not known:
                known, whole = part, self._read_part(part)
            tensor = whole
            for dimension, (begin, length) in enumerate(zip(item.storage_offsets, item.lengths, strict=True)):
                tensor = tensor.narrow(dimension, begin, length)
            yield item, tensor

    def _read_part(self, part: Part) -> Tensor:
        _, shape, name, offset, length = part
        where = f"{self._path / name}, bytes {offset} to {offset + length}"
        if not name.endswith(".distcp"):
            raise CheckpointError(f"{self._path / name}: is no file of this checkpoint")
        fd = self._open(name)
        if offset + length > os.fstat(fd).st_size:
            raise CheckpointError(f"{where}: are not all there")
        with _file_in_memory() as copied:
            copied.write(os.pread(fd, length, offset))
            copied.flush()
            tensor = _load_checked(copied.fileno(), Path(where))
        if not isinstance(tensor, Tensor) or list(tensor.shape) != list(shape):
            raise CheckpointError(f"{where}: are no tensor of shape {shape}")
        return tensor


def _load_checked(fd: int, where: Path) -> Any:
    try:
        check(fd)
    except CheckpointError as error:
        raise CheckpointError(f"{where}: {error}") from error
    return load_open(fd, where)


def _allocate(obj: Any, state: Any) -> None:
    """Allocate the sharded tensors in the state of an object."""
    layout = Layout(obj)
    wrappers = Wrappers(obj) if isinstance(obj, nn.Module) else None

    def allocate(path: tuple[Any, ...], leaf: Any) -> Any:
        if isinstance(leaf, _ShardedTensor):
            leaf.allocate(layout, path if wrappers is None else (wrappers.dressed(path[0]), *path[1:]))
        return leaf

    mapped(allocate, state)


def _metadata(wanted: Mapping[str, _ShardedTensor]) -> Any:
    """The metadata by which torch.distributed.checkpoint plans the reading."""
    from torch.distributed.checkpoint.metadata import (
        ChunkStorageMetadata,
        Metadata,
        TensorProperties,
        TensorStorageMetadata,
    )

    def of(one: _ShardedTensor) -> Any:
        chunks = [ChunkStorageMetadata(torch.Size(part[0]), torch.Size(part[1])) for part in one.parts]
        return TensorStorageMetadata(TensorProperties(one.dtype), torch.Size(one.shape), chunks)

    return Metadata({name: of(one) for name, one in wanted.items()})


def _check_complete(plan: Any, wanted: Mapping[str, _ShardedTensor]) -> None:
    """Check that every allocated element is read."""
    found = dict.fromkeys(wanted, 0)
    for item in plan.items:
        found[item.dest_index.fqn] += math.prod(item.lengths)
    for name, one in wanted.items():
        room: Any = one.tensor
        room = room.to_local() if hasattr(room, "to_local") else room
        if found[name] != room.numel():
            raise ValueError(f"of {name} there are {found[name]} values, {room.numel()} are needed")


def _file_in_memory() -> BinaryIO:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("part"), "w+b")
    return tempfile.TemporaryFile()
