"""Seed, save and restore the random generators of python, numpy (if it is imported) and torch, on every device."""

from __future__ import annotations

import hashlib
import math
import numbers
import random
import struct
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch

from ignite_core.exceptions import CheckpointError

__all__ = [
    "Source",
    "Stream",
    "check_rng_state",
    "host_state",
    "manual_seed",
    "mix",
    "restore_host",
    "rng_state",
    "seed_host",
    "set_rng_state",
    "source_of",
    "spread",
]


def manual_seed(seed: int) -> None:
    """Seed python, torch on every device, and numpy if it is imported.

    Args:
        seed: Any integer; numpy, which takes 32 bits, is seeded with it modulo 2**32.

    Example:
        >>> manual_seed(1)
        >>> first = torch.rand(2), random.random()
        >>> manual_seed(1)
        >>> torch.equal(first[0], torch.rand(2)), first[1] == random.random()
        (True, True)
    """
    random.seed(seed)
    torch.manual_seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed % 2**32)


def rng_state() -> dict[str, Any]:
    """The state of all generators as tensors and numbers, which ``torch.load(weights_only=True)`` accepts.

    Example:
        >>> before = rng_state()
        >>> drawn = torch.rand(2), random.random()
        >>> set_rng_state(before)
        >>> torch.equal(drawn[0], torch.rand(2)), drawn[1] == random.random()
        (True, True)
    """
    version, words, gauss = random.getstate()
    state: dict[str, Any] = {
        "python": {"version": version, "words": torch.tensor(words), "gauss": gauss},
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state["cuda"] = torch.cuda.get_rng_state_all()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        own = numpy.random.get_state(legacy=False)
        key = torch.from_numpy(own["state"]["key"].astype("int64"))
        state["numpy"] = {"key": key, "pos": own["state"]["pos"], "has_gauss": own["has_gauss"], "gauss": own["gauss"]}
    return state


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Restore a state returned by :func:`rng_state`. Devices and libraries that are not present are skipped.

    Raises:
        CheckpointError: As in :func:`check_rng_state`; then nothing is changed.
    """
    check_rng_state(state)
    python = state["python"]
    random.setstate((python["version"], tuple(python["words"].tolist()), python["gauss"]))
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]][: torch.cuda.device_count()])
    numpy = sys.modules.get("numpy")
    if numpy is not None and "numpy" in state:
        own = state["numpy"]
        words = own["key"].numpy().astype("uint32")
        numpy.random.set_state(("MT19937", words, own["pos"], own["has_gauss"], own["gauss"]))


def check_rng_state(state: object) -> None:
    """Refuse a state that :func:`rng_state` cannot have returned: with some, numpy and torch read outside their memory.

    Raises:
        CheckpointError: If a part is missing, or has a type, size or range that its generator does not accept.

    Example:
        >>> check_rng_state(rng_state())
        >>> check_rng_state({**rng_state(), "torch": torch.zeros(3, dtype=torch.uint8)})
        Traceback (most recent call last):
        ...
        ignite_core.exceptions.CheckpointError: The random state of torch is damaged: Expected a CPUGenerator...
    """
    if not isinstance(state, Mapping):
        raise CheckpointError(f"A random state must be a mapping, got {type(state).__name__}")
    for name, check in _CHECKS.items():
        if name in state or name in ("python", "torch"):
            try:
                check(state[name])
            except (KeyError, TypeError, ValueError, OverflowError, RuntimeError, struct.error) as error:
                reason = f"{error} is missing" if isinstance(error, KeyError) else str(error).partition("\n")[0]
                raise CheckpointError(f"The random state of {name} is damaged: {reason}") from None


def _check_words(tensor: object, count: int) -> list[int]:
    """The words of a Mersenne twister."""
    if not isinstance(tensor, torch.Tensor) or tensor.dtype != torch.int64 or tensor.shape != (count,):
        raise ValueError(f"its words must be {count} int64 numbers, got {_describe(tensor)}")
    words: list[int] = tensor.tolist()
    if not 0 <= min(words) <= max(words) < 2**32:
        raise ValueError(f"its words must be below 2**32, got {min(words)} to {max(words)}")
    return words


def _check_number(name: str, value: object, kind: type, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:  # type: ignore[operator]
        raise ValueError(f"{name} must be a number from {low} to {high}, got {str(value)[:40]!r}")


def _check_python(state: Any) -> None:
    if state["gauss"] is not None:
        _check_number("gauss", state["gauss"], numbers.Real, -math.inf, math.inf)
    random.Random().setstate((state["version"], tuple(_check_words(state["words"], 625)), state["gauss"]))


def _check_numpy(state: Any) -> None:
    _check_words(state["key"], 624)
    _check_number("pos", state["pos"], numbers.Integral, 0, 624)
    _check_number("has_gauss", state["has_gauss"], numbers.Integral, 0, 1)
    _check_number("gauss", state["gauss"], numbers.Real, -math.inf, math.inf)


def _check_torch(state: Any) -> None:
    torch.Generator().set_state(state.cpu() if isinstance(state, torch.Tensor) else state)
    left, _, following = struct.unpack("iiQ", bytes(state[8:24].tolist()))
    if left + following > 625:  # torch checks each of them alone, and would read beyond its last word
        raise ValueError(f"it cannot have {left} words left after {following} of 624")


def _check_cuda(states: object) -> None:
    if not isinstance(states, list | tuple):
        raise ValueError(f"it must be a list of tensors, got {_describe(states)}")
    for state in states:
        # seed and offset; older versions of torch have a twister of 800 bytes before them
        if not isinstance(state, torch.Tensor) or state.dtype != torch.uint8 or state.shape not in ((16,), (816,)):
            raise ValueError(f"it must be 16 bytes a device, got {_describe(state)}")
        (offset,) = struct.unpack("q", bytes(state[-8:].tolist()))
        if offset < 0 or offset % 4:
            raise ValueError(f"its offset must be a multiple of 4, got {offset}")


def _describe(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor of {value.dtype} and shape {tuple(value.shape)}"
    return type(value).__name__


_CHECKS: dict[str, Callable[[Any], None]] = {
    "python": _check_python,
    "torch": _check_torch,
    "cuda": _check_cuda,
    "numpy": _check_numpy,
}


_ALL_BITS = 2**64 - 1


def mix(*parts: int | str) -> int:
    """A seed of 64 bits that depends on all of the parts.

    Example:
        >>> mix(5, "epoch", 1) == mix(5, "epoch", 1), mix(5, "epoch", 1) == mix(5, "epoch", 2)
        (True, False)
    """
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "little")


def spread(seed: int, number: int) -> int:
    """A seed of 64 bits for each ``number``: as :func:`mix`, in half the time (splitmix64)."""
    word = (seed + number * 0x9E3779B97F4A7C15) & _ALL_BITS
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _ALL_BITS
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _ALL_BITS
    return word ^ (word >> 31)


@dataclass(frozen=True, slots=True)
class Source:
    """How to get and set the state of a random generator, and seed it with 64 bits."""

    get: Callable[[], Any]
    set: Callable[[Any], object]
    seed: Callable[[int], object]


@cache
def _host_sources(has_numpy: bool) -> tuple[Source, ...]:
    own = torch.default_generator
    sources = (
        Source(random.getstate, random.setstate, random.seed),
        Source(own.get_state, own.set_state, own.manual_seed),
    )
    if not has_numpy:
        return sources
    generator = sys.modules["numpy"].random
    # the upper bits: with the lower ones it would draw the same words as torch
    seed = lambda number: generator.seed(number >> 32)  # noqa: E731
    return (*sources, Source(partial(generator.get_state, legacy=False), generator.set_state, seed))


def _host() -> tuple[Source, ...]:
    """The default generators of python, torch on the CPU, and numpy if it is imported."""
    return _host_sources("numpy" in sys.modules)


def seed_host(seed: int) -> None:
    """Seed python, torch on the CPU and numpy with 64 bits, in 7 µs (``torch.manual_seed`` alone takes 150)."""
    for source in _host():
        source.seed(seed)


def host_state() -> list[tuple[Source, Any]]:
    """The state of python's, torch's and numpy's generators on the CPU, for :func:`restore_host`; in 40 µs."""
    return [(source, source.get()) for source in _host()]


def restore_host(state: Iterable[tuple[Source, Any]]) -> None:
    """Restore a state returned by :func:`host_state`."""
    for source, value in state:
        source.set(value)


def source_of(generator: Any) -> Source | None:
    """A generator object of torch, python or numpy as a source; None for anything else."""
    if isinstance(generator, torch.Generator):
        return Source(generator.get_state, generator.set_state, generator.manual_seed)
    if isinstance(generator, random.Random):
        return Source(generator.getstate, generator.setstate, generator.seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(generator, numpy.random.RandomState):
        return Source(generator.get_state, generator.set_state, lambda seed: generator.seed(seed >> 32))
    if numpy is not None and isinstance(generator, numpy.random.Generator):
        bits = generator.bit_generator
        set_state = partial(setattr, bits, "state")
        return Source(lambda: bits.state, set_state, lambda seed: set_state(type(bits)(seed).state))
    return None


class Stream:
    """A separate stream of random numbers: code inside the block draws from it, and the generators are restored after.

    Args:
        seed: The seed of the stream, 64 bits.
        sources: The generators used; by default those of the host.

    Example:
        >>> manual_seed(0)
        >>> stream = Stream(mix(1))
        >>> with stream:
        ...     first = random.random()
        >>> outside = random.random()
        >>> with stream:
        ...     second = random.random()
        >>> manual_seed(0)
        >>> outside == random.random(), first == second
        (True, False)
    """

    def __init__(self, seed: int, sources: Iterable[Source] | None = None) -> None:
        self._seed = seed
        self._sources = None if sources is None else tuple(sources)
        self._inside: list[tuple[Source, Any]] | None = None
        self._outside: list[tuple[Source, Any]] = []

    def __enter__(self) -> None:
        self._outside = self._states()
        if self._inside is not None:
            restore_host(self._inside)
            return
        for source, _ in self._outside:
            source.seed(self._seed)

    def __exit__(self, *error: object) -> None:
        self._inside = self._states()
        restore_host(self._outside)

    def _states(self) -> list[tuple[Source, Any]]:
        return host_state() if self._sources is None else [(source, source.get()) for source in self._sources]
