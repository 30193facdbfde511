"""How a run that can be resumed exactly iterates its data, by the kind of data.

- A map-style DataLoader begins a pass at any place, see :mod:`ignite_core.engine.data.seeded_loader`; so do lists,
  tuples, ranges, tensors and arrays.
- Data with ``state_dict`` and ``load_state_dict`` saves its own position.
- Other data is iterated again from the start of the pass, with the same random numbers.
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

from ignite_core.engine.data.epochs import set_epoch
from ignite_core.engine.data.position import Passes, has_state, length_of, share_of
from ignite_core.engine.data.seeded_loader import SeededLoader, SeededStream
from ignite_core.rng import Stream, host_state, mix, restore_host, rng_state, seed_host, set_rng_state, spread

__all__ = ["StatefulPasses", "seeded_passes"]

_logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_REPORTS = 10


def seeded_passes(data: Iterable[Any], seed: int, rank: int, world_size: int) -> Passes:
    """The passes of a seeded run over its data.

    Raises:
        ValueError: If it is a DataLoader with ``in_order=False``.
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


def _is_whole_loader(data: object) -> TypeGuard[DataLoader[Any]]:
    """Whether it is a DataLoader with the attributes of its constructor; subclasses may wrap another one instead."""
    return isinstance(data, DataLoader) and hasattr(data, "dataset") and hasattr(data, "num_workers")


#: The states loaded into streams of Hugging Face, which would begin there again in each later pass of that number.
_loaded: MutableMapping[Any, Any] = WeakIdKeyDictionary()

#: The copies of loaders with persistent workers, which live as long as the loader.
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
    """Passes over a map-style DataLoader."""

    def __init__(self, data: DataLoader[Any], seed: int, loader: SeededLoader) -> None:
        self.data: Iterable[Any] = data
        self._seed = seed
        self._loader = loader
        self._is_plain = type(data).__iter__ is DataLoader.__iter__

    def begin(self, number: int, done: int) -> Iterator[Any]:
        set_epoch(self.data, number, self._loader.copied)
        _check_long_enough(self.data, done, length_of(self.data))
        before = host_state()
        try:
            iterator = self._loader.begin(mix(self._seed, "pass", number), done)
        finally:
            restore_host(before)
        if self._is_plain:
            return iterator
        return _by_place(iterator, self._loader, mix(self._seed, "batches", number), done)


def _by_place(iterator: Iterator[Any], loader: SeededLoader, seed: int, place: int) -> Iterator[Any]:
    """Batches of a loader class with its own ``__iter__``, on random numbers that depend on their place only."""
    for place in itertools.count(place):  # noqa: B020
        before = host_state()
        try:
            seed_host(spread(seed, place))
            batch = next(iterator)
        except StopIteration:
            return
        finally:
            restore_host(before)
        loader.check_in_use()
        yield batch
        del batch  # before the next one is loaded


class _SequencePasses:
    """Passes over a sequence of batches."""

    def __init__(self, data: Iterable[Any]) -> None:
        self.data = data

    def begin(self, number: int, done: int) -> Iterator[Any]:
        set_epoch(self.data, number)
        _check_long_enough(self.data, done, length_of(self.data))
        return itertools.islice(iter(self.data), done, None) if done else iter(self.data)


class _ReplayedPasses:
    """Passes over data that is iterated from its start: batches that were done are produced again, and dropped."""

    def __init__(self, data: Iterable[Any], seed: int, rank: int, loader: SeededStream | None) -> None:
        self.data = data
        self._seed = mix(seed, rank)
        self._loader = loader

    def begin(self, number: int, done: int) -> Iterator[Any]:
        set_epoch(self.data, number, None if self._loader is None else self._loader.copied)
        seed = mix(self._seed, "pass", number)
        stream = Stream(mix(seed, "data"))
        with stream:
            iterator = iter(self.data) if self._loader is None else self._loader.begin(seed)
            made = _replay(iterator, done, type(self.data).__name__)
        _check_long_enough(self.data, done, made)
        return _in_stream(iterator, stream)


def _replay(iterator: Iterator[Any], done: int, name: str) -> int:
    """Produce the batches that were done, and drop them; returns how many there were."""
    if not done:
        return 0
    _logger.warning(
        "Engine.run: to continue inside a pass over a %s, its first %d batches are produced again. A map-style dataset "
        "in a DataLoader, or data with state_dict and load_state_dict, continues at once.",
        name,
        done,
    )
    made, began = 0, time.perf_counter()
    reported = began
    for made, _ in enumerate(itertools.islice(iterator, done), 1):
        now = time.perf_counter()
        if now - reported >= _SECONDS_BETWEEN_REPORTS:
            reported = now
            _logger.warning("Engine.run: produced %d of %d batches again, in %.0f s.", made, done, now - began)
    _logger.info("Engine.run: produced %d batches again, in %.1f s.", made, time.perf_counter() - began)
    return made


def _in_stream(iterator: Iterator[Any], stream: Stream) -> Iterator[Any]:
    """The batches of an iterator that draws random numbers from a stream."""
    while True:
        try:
            with stream:
                batch = next(iterator)
        except StopIteration:
            return
        yield batch
        del batch  # before the next one is loaded


class StatefulPasses:
    """Passes over data with ``state_dict`` and ``load_state_dict``, of a seeded run or not.

    Args:
        data: The data.
        seed: Seed of the random numbers that it draws in this process; None: it draws those of the run.
    """

    def __init__(self, data: Any, seed: int | None) -> None:
        self.data = data
        self._seed = seed
        self._stream: Stream | None = None
        self._loaded: Mapping[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        if self._loaded is not None:
            return dict(self._loaded)
        saved = {"state": self.data.state_dict()}
        if self._stream is not None:
            with self._stream:
                saved["rng"] = rng_state()
        return saved

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Load a state for the pass that begins next."""
        self._loaded = saved

    def begin(self, number: int, done: int) -> Iterator[Any]:
        set_epoch(self.data, number)
        loaded, self._loaded = self._loaded, None
        if loaded is not None:  # else its position is the user's
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
        return _in_stream(iterator, self._stream)
