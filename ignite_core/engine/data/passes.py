"""How a run that is to be resumed exactly goes through its data, by the kind of data.

- A map-style DataLoader: by the place, so a pass begins anywhere (:mod:`ignite_core.engine.data.seeded_loader`).
- Data with ``state_dict`` and ``load_state_dict``: it knows its own place.
- Lists, tuples, ranges, tensors, arrays: by the place.
- Whatever else can be iterated: it is iterated again from the start of the pass, on random numbers of its own.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any, TypeGuard
from weakref import WeakKeyDictionary

import torch
from torch.utils.data import DataLoader, IterableDataset, IterDataPipe, MapDataPipe
from torch.utils.weak import WeakIdKeyDictionary

from ignite_core.engine.data.epochs import tell_epoch
from ignite_core.engine.data.position import Passes, has_state, length_of, share_of
from ignite_core.engine.data.seeded_loader import SeededLoader, SeededStream
from ignite_core.rng import Stream, host_state, mix, restore_host, rng_state, seed_host, set_rng_state, spread

__all__ = ["StatefulPasses", "seeded_passes"]

_logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_REPORTS = 10


def seeded_passes(data: Iterable[Any], seed: int, rank: int, world_size: int) -> Passes:
    """The data as a seeded run goes through it.

    Raises:
        ValueError: If it is a DataLoader whose batches come in any order.
    """
    if not getattr(data, "in_order", True):
        raise ValueError(
            f"Engine.run: a seeded run needs batches in their order, got a {type(data).__name__} with in_order=False"
        )
    if has_state(data):
        return StatefulPasses(data, mix(seed, rank))
    if _is_whole_loader(data) and not isinstance(data.dataset, IterDataPipe | MapDataPipe):
        if isinstance(data.dataset, IterableDataset):
            return _ReplayedPasses(data, seed, rank, _copy_of(data, rank, world_size))
        return _LoaderPasses(data, seed, _copy_of(data, *share_of(data, rank, world_size)))
    if isinstance(data, list | tuple | range | torch.Tensor) or hasattr(data, "__array__"):
        return _SequencePasses(data)
    return _ReplayedPasses(data, seed, rank, None)


def _is_whole_loader(data: Any) -> TypeGuard[DataLoader[Any]]:
    """Whether it is a DataLoader with all that its constructor sets: subclasses may wrap another one instead."""
    return isinstance(data, DataLoader) and hasattr(data, "dataset") and hasattr(data, "num_workers")


#: The states that streams of Hugging Face were set to: they would begin there again in each later pass of that number.
_loaded: MutableMapping[Any, Any] = WeakIdKeyDictionary()

#: The copies of loaders with persistent workers, which are to live as long as the loader.
_persistent: WeakKeyDictionary[DataLoader[Any], Any] = WeakKeyDictionary()


def _copy_of(loader: DataLoader[Any], rank: int, world_size: int) -> Any:
    known = _persistent.get(loader)
    if known is not None and known.place == (rank, world_size):
        return known
    kind = SeededStream if isinstance(loader.dataset, IterableDataset) else SeededLoader
    made = kind(loader, rank, world_size)
    if loader.persistent_workers:
        _persistent[loader] = made
    return made


def _check_long_enough(data: Iterable[Any], done: int, has: int | None) -> None:
    if has is not None and has < done:
        raise ValueError(
            f"Engine.run: the saved run had taken {done} batches of this pass over the data, but the data, a "
            f"{type(data).__name__}, has only {has}; pass the data that the saved run had"
        )


class _LoaderPasses:
    """A DataLoader by place."""

    def __init__(self, data: DataLoader[Any], seed: int, loader: SeededLoader) -> None:
        self.data: Iterable[Any] = data
        self._seed = seed
        self._loader = loader
        self._is_plain = type(data).__iter__ is DataLoader.__iter__

    def begin(self, number: int, done: int) -> Iterator[Any]:
        tell_epoch(self.data, number, self._loader.copied)
        _check_long_enough(self.data, done, length_of(self.data))
        before = host_state()
        try:
            iterator = self._loader.begin(mix(self._seed, "pass", number), done)
        finally:
            restore_host(before)
        if self._is_plain:
            return iterator
        return _ByPlace(iterator, self._loader, mix(self._seed, "batches", number), done)


class _ByPlace:
    """Batches to which a loader of the user's does more, on random numbers that depend on their place alone."""

    __slots__ = ("_iterator", "_loader", "_place", "_seed")

    def __init__(self, iterator: Iterator[Any], loader: SeededLoader, seed: int, place: int) -> None:
        self._iterator = iterator
        self._loader = loader
        self._seed = seed
        self._place = place

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        before = host_state()
        try:
            seed_host(spread(self._seed, self._place))
            batch = next(self._iterator)
        finally:
            restore_host(before)
        self._loader.check_in_use()
        self._place += 1
        return batch


class _SequencePasses:
    """Data that holds its batches."""

    def __init__(self, data: Iterable[Any]) -> None:
        self.data = data

    def begin(self, number: int, done: int) -> Iterator[Any]:
        tell_epoch(self.data, number)
        _check_long_enough(self.data, done, length_of(self.data))
        return itertools.islice(iter(self.data), done, None) if done else iter(self.data)


class _ReplayedPasses:
    """Data that can only be iterated from its start: what was done is made once more, and dropped."""

    def __init__(self, data: Iterable[Any], seed: int, rank: int, loader: SeededStream | None) -> None:
        self.data = data
        self._seed = mix(seed, rank)
        self._loader = loader

    def begin(self, number: int, done: int) -> Iterator[Any]:
        tell_epoch(self.data, number, None if self._loader is None else self._loader.copied)
        seed = mix(self._seed, "pass", number)
        stream = Stream(mix(seed, "data"))
        with stream:
            iterator = iter(self.data) if self._loader is None else self._loader.begin(seed)
            made = _replay(iterator, done, type(self.data).__name__)
        _check_long_enough(self.data, done, made)
        return _InStream(iterator, stream)


def _replay(iterator: Iterator[Any], done: int, name: str) -> int:
    """Make the batches that were done and drop them; returns how many there were."""
    if not done:
        return 0
    _logger.warning(
        "Engine.run: to go on inside a pass over a %s, its first %d batches are made once more. A map-style dataset in "
        "a DataLoader, or data with state_dict and load_state_dict, goes on at once.",
        name,
        done,
    )
    made, began = 0, time.perf_counter()
    reported = began
    for made, _ in enumerate(itertools.islice(iterator, done), 1):
        now = time.perf_counter()
        if now - reported >= _SECONDS_BETWEEN_REPORTS:
            reported = now
            _logger.warning("Engine.run: made %d of %d batches once more, in %.0f s.", made, done, now - began)
    _logger.info("Engine.run: made %d batches once more, in %.1f s.", made, time.perf_counter() - began)
    return made


class _InStream:
    """An iterator that draws from a stream of its own."""

    __slots__ = ("_iterator", "_stream")

    def __init__(self, iterator: Iterator[Any], stream: Stream) -> None:
        self._iterator = iterator
        self._stream = stream

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        with self._stream:
            return next(self._iterator)


class StatefulPasses:
    """Data that tells its own place, whether the run is seeded or not.

    Args:
        data: It has ``state_dict`` and ``load_state_dict``.
        seed: Of the random numbers that it draws in this process; None leaves it to those of the run.
    """

    def __init__(self, data: Any, seed: int | None) -> None:
        self.data = data
        self._seed = seed
        self._stream: Stream | None = None
        self._loaded: Mapping[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """The state of the data, and of its random numbers."""
        if self._loaded is not None:
            return dict(self._loaded)
        saved = {"state": self.data.state_dict()}
        if self._stream is not None:
            with self._stream:
                saved["rng"] = rng_state()
        return saved

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` saved, for the pass that begins next."""
        self._loaded = saved

    def begin(self, number: int, done: int) -> Iterator[Any]:
        tell_epoch(self.data, number)
        loaded, self._loaded = self._loaded, None
        if loaded is not None:  # else the user has put the data where it is
            self.data.load_state_dict(loaded["state"])
            if hasattr(self.data, "_starting_state_dict"):
                _loaded[self.data] = loaded["state"]
        elif hasattr(self.data, "_starting_state_dict") and self.data._starting_state_dict is _loaded.get(self.data):
            self.data._starting_state_dict = None
        if self._seed is None:
            return iter(self.data)
        self._stream = Stream(mix(self._seed, "data", number))
        with self._stream:
            iterator = iter(self.data)
            if loaded is not None and "rng" in loaded:
                set_rng_state(loaded["rng"])
        return _InStream(iterator, self._stream)
