"""Snapshots: copies of a state in a buffer that is kept from one save to the next.

The buffer is memory shared with child processes: after a DataLoader has forked a worker, the next copy does not cause a
page fault for each page.
"""

from __future__ import annotations

import copy
import mmap
import weakref
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Snapshot"]

#: Alignment of storages, as for vector instructions and in torch's files.
_ALIGNMENT = 64

_Storages = dict[tuple[int, int], torch.UntypedStorage]


class Snapshot:
    """Copies states into a buffer that is allocated once, and again only if a state is larger."""

    def __init__(self) -> None:
        self._memory: _Memory | None = None
        self._sizes: list[int] = []
        self._buffers: list[torch.UntypedStorage] = []

    def take(self, state: Any) -> Any:
        """A copy of ``state``, which is valid until the next call.

        Args:
            state: Tensors in dicts, lists and tuples; other objects are copied by :func:`copy.deepcopy`.

        Returns:
            The same structure. Tensors are on the CPU, and those that share memory share it in the copy too.
        """
        copier = _Copier()
        copied = copier.copy(state)
        storages = copier.storages()
        gpus = {device for device in copier.devices if device.type == "cuda"}
        buffers = dict(zip(storages, self._buffers_for(storages.values(), pinned=bool(gpus)), strict=True))
        with torch.no_grad():
            for original, clone in copier.tensors:
                storage = original.untyped_storage()
                key = _key(storage)
                clone.set_(buffers[key], original.storage_offset(), original.size(), original.stride())
                if storages.pop(key, None) is not None:  # else it was copied with another one
                    _copy(original, storage, clone, buffers[key], non_blocking=bool(gpus))
                if original.requires_grad:
                    clone.requires_grad_()
        for gpu in gpus:
            torch.cuda.current_stream(gpu).synchronize()
        return copied

    def close(self) -> None:
        """Free the buffer. The next :meth:`take` allocates it again."""
        self._sizes, self._buffers = [], []
        if self._memory is not None:
            self._memory.close()
            self._memory = None

    def _buffers_for(self, storages: Iterable[torch.UntypedStorage], pinned: bool) -> list[torch.UntypedStorage]:
        sizes = [storage.nbytes() for storage in storages]
        if sizes != self._sizes or self._memory is None:
            offsets = [0]
            for size in sizes:
                offsets.append(offsets[-1] + -(-size // _ALIGNMENT) * _ALIGNMENT)
            total = max(offsets[-1], mmap.PAGESIZE)
            if self._memory is None or self._memory.size < total:
                self.close()
                self._memory = _Memory(total)
            self._buffers = [self._memory.piece(*place) for place in zip(offsets, sizes, strict=False)]
            self._sizes = sizes
        if pinned:
            self._memory.pin()
        return self._buffers


class _Memory:
    """Memory that is shared with child processes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._pinned: list[int] = []
        self.close = weakref.finalize(self, _unpin, self._pinned)
        self.close.atexit = False  # a save may be in progress until the very end
        self._bytes = mmap.mmap(-1, size)
        self.address = torch.frombuffer(self._bytes, dtype=torch.uint8).data_ptr()

    def piece(self, offset: int, size: int) -> torch.UntypedStorage:
        return torch.frombuffer(self._bytes, dtype=torch.uint8, count=size, offset=offset).untyped_storage()

    def pin(self) -> None:
        """Let a GPU copy into it while the CPU continues. If the driver refuses, copies are only slower."""
        if not self._pinned and int(torch.cuda.cudart().cudaHostRegister(self.address, self.size, 0)) == 0:  # type: ignore[no-untyped-call]
            self._pinned.append(self.address)


def _unpin(pinned: list[int]) -> None:
    for address in pinned:
        torch.cuda.cudart().cudaHostUnregister(address)  # type: ignore[no-untyped-call]


class _Copier:
    """Copies a structure; its plain tensors are left empty, for :class:`Snapshot` to fill."""

    def __init__(self) -> None:
        self.tensors: list[tuple[Tensor, Tensor]] = []
        self.devices: set[torch.device] = set()  # other than the CPU
        self._memo: dict[int, Any] = {}  # as in deepcopy: an object in two places stays one

    def storages(self) -> _Storages:
        found = (original.untyped_storage() for original, _ in self.tensors)
        return {_key(storage): storage for storage in found}

    def copy(self, value: Any) -> Any:
        kind = type(value)
        if kind is Tensor or kind is nn.Parameter:
            return self._tensor(value)
        if kind not in _CONTAINERS:
            return copy.deepcopy(value.detach() if isinstance(value, Tensor) else value, self._memo)
        if id(value) in self._memo:
            return self._memo[id(value)]
        if kind is tuple:
            return tuple(self.copy(item) for item in value)
        copied = self._memo[id(value)] = kind()
        if kind is list:
            copied.extend(self.copy(item) for item in value)
            return copied
        for key, item in value.items():
            copied[key] = self.copy(item)
        if kind is OrderedDict:  # the state of a module has its metadata as an attribute
            vars(copied).update({name: self.copy(item) for name, item in vars(value).items()})
        return copied

    def _tensor(self, value: Tensor) -> Tensor:
        known: Tensor | None = self._memo.get(id(value))
        if known is not None:
            return known
        if not _is_plain(value):
            copied: Tensor = copy.deepcopy(value.detach(), self._memo)
            self._memo[id(value)] = copied
            return copied
        if not value.is_cpu:
            self.devices.add(value.device)
        clone = torch.empty(0, dtype=value.dtype)
        if type(value) is nn.Parameter:
            clone = nn.Parameter(clone, requires_grad=False)
        self._memo[id(value)] = clone
        self.tensors.append((value, clone))
        return clone


_CONTAINERS = (dict, OrderedDict, list, tuple)


def _is_plain(value: Tensor) -> bool:
    """Whether a tensor is a strided view of a storage that has bytes."""
    return (
        value.layout is torch.strided
        and not (value.is_quantized or value.is_conj() or value.is_neg() or value.is_meta)
        and value.untyped_storage().nbytes() > 0
    )


def _copy(
    original: Tensor, storage: torch.UntypedStorage, clone: Tensor, buffer: torch.UntypedStorage, non_blocking: bool
) -> None:
    """Copy the storage of a tensor; copying the tensor is faster, if it views the whole storage."""
    if original.nbytes == storage.nbytes() and original.is_contiguous():
        clone.copy_(original, non_blocking=non_blocking)
    else:
        buffer.copy_(storage, non_blocking=non_blocking)


def _key(storage: torch.UntypedStorage) -> tuple[int, int]:
    return storage.data_ptr(), storage.nbytes()
