"""The proof that a training script goes on exactly after any cut."""

from __future__ import annotations

import ctypes
import hashlib
import io
import math
import numbers
import pickle
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import torch

from ignite_core.engine.engine import Engine
from ignite_core.engine.events import Events
from ignite_core.exceptions import few
from ignite_core.rng import rng_state

__all__ = ["assert_resumable"]

#: After all other handlers of an event.
_LAST = -1_000_000_000

Build = Callable[[], tuple[Engine, Mapping[str, Any]]]

#: Values by the path to them, as ``optimizer.state.0.exp_avg``; large ones as text with a digest.
Snapshot = dict[str, Any]


def assert_resumable(
    build: Build,
    data: Any,
    cut_at: str | Iterable[int] = "all",
    *,
    max_epochs: int | None = None,
    max_iters: int | None = None,
    epoch_length: int | None = None,
    seed: int | None = 0,
) -> None:
    """Run a script whole; then, for each cut, what a checkpoint of that moment holds in a fresh build; compare it all.

    Of each iteration after a cut: the batch, the output, the metrics, the states of everything in ``to_save``, how
    often events that nothing else counts were fired, and the states of the random generators, bit for bit. What is
    saved goes through ``torch.save`` and ``torch.load(weights_only=True)``.

    Args:
        build: Makes everything anew, as the script does when it starts; returns the trainer and what a checkpoint of
            the script saves, by name, the trainer included.
        data: What the script gives to ``trainer.run``; or a function without arguments that makes it, as is needed for
            data that cannot be iterated again from its start, or that changes.
        cut_at: The iterations after which to cut, in increasing order; ``"all"``: each but the last.
        max_epochs: As of ``trainer.run``.
        max_iters: As of ``trainer.run``.
        epoch_length: As of ``trainer.run``.
        seed: As of ``trainer.run``; None for a trainer that was given its seed in ``build``.

    Raises:
        AssertionError: If anything differs, naming the cut, the iteration and the state that differs first; or if
            something cannot be saved and loaded.
        ValueError: If a cut is not inside the run.

    Example:
        >>> from torch.utils.data import DataLoader
        >>> from ignite_core.engine import create_supervised_trainer
        >>> def build(with_scheduler=True):
        ...     torch.manual_seed(0)
        ...     model = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Dropout(), torch.nn.Linear(4, 1))
        ...     optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        ...     scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        ...     trainer = create_supervised_trainer(model, optimizer, torch.nn.functional.mse_loss)
        ...     trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: scheduler.step())
        ...     to_save = {"trainer": trainer, "model": model, "optimizer": optimizer}
        ...     return trainer, {**to_save, "scheduler": scheduler} if with_scheduler else to_save
        >>> data = DataLoader([(torch.randn(2), torch.randn(1)) for _ in range(8)], batch_size=2, shuffle=True)
        >>> assert_resumable(build, data, max_epochs=2)
    """
    limits = {"max_epochs": max_epochs, "max_iters": max_iters, "epoch_length": epoch_length, "seed": seed}
    run = _Runs(build, data, {name: value for name, value in limits.items() if value is not None})
    whole = run.whole()
    last = whole.iterations[-1]
    cuts = list(range(1, last)) if cut_at == "all" else _checked(cut_at, last)
    saved: dict[int, bytes] = {}
    second = run.whole(saving_at=cuts, saved=saved)
    _compare(second, whole, 0, "a second run of the same script, uncut", _NOT_SEEDED)
    for cut in cuts:
        resumed = run.resumed(saved[cut], cut)
        where = f"cut after iteration {cut} and resumed"
        if resumed.iterations[:1] != [cut + 1]:
            raise AssertionError(
                f"assert_resumable: {where}, the run went on with iterations {resumed.iterations[:3]} instead of "
                f"{cut + 1}: is the trainer in what build() returns to be saved, and does its run have a seed?"
            )
        _compare(resumed, whole, cut, where, _NOT_SAVED)


_NOT_SEEDED = (
    "The run does not repeat itself, even uncut. Usual causes: no seed; a build() that does not make everything anew, "
    "or draws first weights from generators that nobody has seeded; a generator or counter in the dataset or a handler."
)
_NOT_SAVED = (
    "Something that decides over it was not saved, or is not put back by load_state_dict: usually an object missing in "
    "what build() returns to be saved (a scheduler, a scaler, an averaged model), or a generator of one's own, as in a "
    "dataset."
)


def _checked(cut_at: Any, last: int) -> list[int]:
    cuts = [] if isinstance(cut_at, str) else list(cut_at)
    if not cuts or any(isinstance(cut, bool) or not isinstance(cut, int) or not 1 <= cut < last for cut in cuts):
        raise ValueError(
            f"assert_resumable: cut_at must be 'all' or some of the iterations 1 to {last - 1}, got {cut_at!r}"
        )
    return cuts


class _Record:
    """What was seen of a run: snapshots by the moment, in their order, and the iterations."""

    def __init__(self) -> None:
        self.moments: dict[str, Snapshot] = {}
        self.iterations: list[int] = []

    def after(self, cut: int) -> list[str]:
        """The moments after an iteration."""
        moments = list(self.moments)
        return moments[moments.index(_after(cut)) + 1 :] if cut else moments


def _after(iteration: int) -> str:
    return f"after iteration {iteration}"


class _Runs:
    """Runs of one script, each in a fresh build."""

    def __init__(self, build: Build, data: Any, limits: dict[str, int]) -> None:
        self._build = build
        self._data = data
        self._limits = limits

    def whole(self, saving_at: Sequence[int] = (), saved: dict[int, bytes] | None = None) -> _Record:
        """A run from the start; what a checkpoint would hold at some iterations goes into ``saved``."""
        trainer, to_save = self._build()
        if saved is not None and saving_at:

            @trainer.on(Events.ITERATION_COMPLETED(once=list(saving_at), priority=_LAST))
            def save() -> None:
                saved[trainer.state.iteration] = _to_bytes(to_save)

        return self._watched(trainer, to_save)

    def resumed(self, saved: bytes, cut: int) -> _Record:
        """A run that goes on from what was saved."""
        trainer, to_save = self._build()
        states = _from_bytes(saved)
        if list(states) != list(to_save):
            raise AssertionError(
                f"assert_resumable: build() must return the same names each time, got {few(states)}, {few(to_save)}"
            )
        for name, state in states.items():
            try:
                to_save[name].load_state_dict(state)
            except Exception as error:
                raise AssertionError(
                    f"assert_resumable: cut after iteration {cut}, {name!r} cannot load what it had saved: {error!r}"
                ) from error
        return self._watched(trainer, to_save)

    def _watched(self, trainer: Engine, to_save: Mapping[str, Any]) -> _Record:
        record = _Record()
        others = {name: one for name, one in to_save.items() if one is not trainer}  # its counters are the place itself

        def look(moment: str, **more: Any) -> None:
            seen = {**more, "metrics": dict(trainer.state.metrics), "event counts": dict(trainer._dispatch.counts)}
            states = {name: one.state_dict() for name, one in others.items()}
            record.moments[moment] = dict(_flat({**seen, **states, "random generators": rng_state()}))

        @trainer.on(Events.ITERATION_COMPLETED(priority=_LAST + 1))
        def note_iteration() -> None:
            record.iterations.append(trainer.state.iteration)
            look(_after(trainer.state.iteration), batch=trainer.state.batch, output=trainer.state.output)

        @trainer.on(Events.EPOCH_COMPLETED(priority=_LAST))
        def note_epoch() -> None:
            look(f"at the end of epoch {trainer.state.epoch}")

        data = self._data() if callable(self._data) else self._data
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # what is not exact will show
            trainer.run(data, **self._limits)
        look("at the end of the run")
        return record


def _compare(one: _Record, whole: _Record, cut: int, where: str, cause: str) -> None:
    """Raise at the first difference."""
    expected = whole.after(cut)
    for moment, wanted in zip_longest(one.moments, expected):
        if moment != wanted:
            raise AssertionError(
                f"assert_resumable: {where}: the run comes to be {moment or 'over'}, where the uncut one is "
                f"{wanted or 'over'}. {cause}"
            )
        _compare_snapshots(one.moments[moment], whole.moments[moment], f"{where}, {moment}", cause)


def _compare_snapshots(one: Snapshot, whole: Snapshot, where: str, cause: str) -> None:
    # A metric that was computed before the cut, and not since, is not there.
    missing = [path for path in whole if path not in one and not path.startswith("metrics.")]
    for path in [*one, *missing]:
        found, expected = one.get(path, "nothing"), whole.get(path, "nothing")
        if found != expected:
            raise AssertionError(f"assert_resumable: {where}, {path} is {found} instead of {expected}. {cause}")


def _to_bytes(to_save: Mapping[str, Any]) -> bytes:
    """As a checkpoint does; each object by itself, so that one that cannot be loaded is named."""
    parts: dict[str, bytes] = {}
    for name, one in to_save.items():
        file = io.BytesIO()
        torch.save(one.state_dict(), file)
        parts[name] = file.getvalue()
        try:
            torch.load(io.BytesIO(parts[name]), weights_only=True)
        except pickle.UnpicklingError as error:
            raise AssertionError(
                f"assert_resumable: what {name!r} saves does not load with torch.load(weights_only=True): {error}"
            ) from error
    return pickle.dumps(parts)


def _from_bytes(saved: bytes) -> dict[str, Any]:
    parts: dict[str, bytes] = pickle.loads(saved)
    return {name: torch.load(io.BytesIO(part), weights_only=True) for name, part in parts.items()}


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The values inside nested mappings and sequences, in a form that can be compared and shown."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _flat(inner, f"{path}[{number}]")
    else:
        yield path, _shown(value)


def _shown(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        if value.numel() == 1 and not value.is_quantized:
            return f"tensor({value.item()!r}, {value.dtype})"
        value = value.contiguous()
        content = ctypes.string_at(value.data_ptr(), value.nbytes) if value.numel() else b""  # numpy may be missing
        return f"a tensor of {tuple(value.shape)}, {value.dtype}, {_digest(content)}"
    if isinstance(value, float) and math.isnan(value):
        return "nan"  # which is equal to itself
    if isinstance(value, numbers.Number | str | bytes | None):
        return value
    try:
        return f"a {type(value).__name__}, {_digest(pickle.dumps(value))}"
    except Exception:  # whatever cannot be looked into
        return f"a {type(value).__name__}"


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=4).hexdigest()
