"""Check that a training script resumes exactly after a cut at any iteration."""

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

#: Values by path, such as ``optimizer.state.0.exp_avg``; large ones as text with a digest.
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
    """Compare an uncut run of a script with runs that resume in a fresh build from the state after an iteration.

    After each iteration that follows a cut, it compares bit for bit the batch, the output, the metrics, the states of
    all objects in ``to_save``, the counts of custom events, and the states of the random generators. The saved state
    goes through ``torch.save`` and ``torch.load(weights_only=True)``.

    Args:
        build: Makes all objects, as the script does when it starts; returns the trainer, and by name the objects that a
            checkpoint of the script saves, the trainer included.
        data: The data for ``trainer.run``; or a function without arguments that makes it, for data that cannot be
            iterated again from the start, or that changes.
        cut_at: The iterations after which to cut, in increasing order; ``"all"``: each but the last.
        max_epochs: As in ``trainer.run``.
        max_iters: As in ``trainer.run``.
        epoch_length: As in ``trainer.run``.
        seed: As in ``trainer.run``; None if ``build`` gives the trainer its seed.

    Raises:
        AssertionError: If a value differs; the message names the cut, the iteration and the first difference. Or if an
            object cannot be saved and loaded.
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
    given = {"max_epochs": max_epochs, "max_iters": max_iters, "epoch_length": epoch_length, "seed": seed}
    limits = {name: value for name, value in given.items() if value is not None}
    saved: dict[int, bytes] = {}
    whole = _run(build, data, limits, saved)
    last = whole.iterations[-1]
    cuts = list(range(1, last)) if cut_at == "all" else _checked(cut_at, last)
    second = _run(build, data, limits, saved, save_at=cuts)
    _compare(second, whole, 0, "a second run of the same script, uncut", _NOT_SEEDED)
    for cut in cuts:
        resumed = _run(build, data, limits, saved, cut)
        where = f"cut after iteration {cut} and resumed"
        if resumed.iterations[:1] != [cut + 1]:
            raise AssertionError(
                f"assert_resumable: {where}, the run went on with iterations {resumed.iterations[:3]} instead of "
                f"{cut + 1}: does build() return the trainer among the objects to save, and does its run have a seed?"
            )
        _compare(resumed, whole, cut, where, _NOT_SAVED)


_NOT_SEEDED = (
    "The run does not repeat itself, even uncut. Usual causes: no seed; a build() that reuses objects, or draws "
    "initial weights from generators without a seed; a generator or counter in the dataset or a handler."
)
_NOT_SAVED = (
    "A state that affects it is not saved, or not restored by load_state_dict: usually an object that build() does not "
    "return among those to save (a scheduler, a scaler, an averaged model), or a custom generator, as in a dataset."
)


def _checked(cut_at: Any, last: int) -> list[int]:
    cuts = [] if isinstance(cut_at, str) else list(cut_at)
    if not cuts or any(isinstance(cut, bool) or not isinstance(cut, int) or not 1 <= cut < last for cut in cuts):
        raise ValueError(
            f"assert_resumable: cut_at must be 'all' or some of the iterations 1 to {last - 1}, got {cut_at!r}"
        )
    return cuts


class _Record:
    """The snapshots of a run by moment, in order, and its iterations."""

    def __init__(self) -> None:
        self.moments: dict[str, Snapshot] = {}
        self.iterations: list[int] = []

    def after(self, cut: int) -> list[str]:
        """The moments after an iteration."""
        moments = list(self.moments)
        return moments[moments.index(_after(cut)) + 1 :] if cut else moments


def _after(iteration: int) -> str:
    return f"after iteration {iteration}"


def _run(
    build: Build,
    data: Any,
    limits: dict[str, int],
    saved: dict[int, bytes],
    cut: int | None = None,
    save_at: Sequence[int] = (),
) -> _Record:
    """Run the script in a fresh build, from the start or a saved state; save states after some iterations."""
    trainer, to_save = build()
    if cut is not None:
        _load(saved[cut], to_save, cut)
    if save_at:

        @trainer.on(Events.ITERATION_COMPLETED(once=list(save_at), priority=_LAST))
        def save() -> None:
            saved[trainer.state.iteration] = _to_bytes(to_save)

    record = _Record()
    others = {name: one for name, one in to_save.items() if one is not trainer}  # its state is the position

    def take(moment: str, **more: Any) -> None:
        seen = {**more, "metrics": dict(trainer.state.metrics), "event counts": dict(trainer._dispatch.counts)}
        states = {name: one.state_dict() for name, one in others.items()}
        record.moments[moment] = dict(_flat({**seen, **states, "random generators": rng_state()}))

    @trainer.on(Events.ITERATION_COMPLETED(priority=_LAST + 1))
    def take_iteration() -> None:
        record.iterations.append(trainer.state.iteration)
        take(_after(trainer.state.iteration), batch=trainer.state.batch, output=trainer.state.output)

    @trainer.on(Events.EPOCH_COMPLETED(priority=_LAST))
    def take_epoch() -> None:
        take(f"at the end of epoch {trainer.state.epoch}")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # inexact resumes are found by the comparison
        trainer.run(data() if callable(data) else data, **limits)
    take("at the end of the run")
    return record


def _load(saved: bytes, to_save: Mapping[str, Any], cut: int) -> None:
    parts: dict[str, bytes] = pickle.loads(saved)
    if list(parts) != list(to_save):
        raise AssertionError(
            f"assert_resumable: build() must return the same names each time, got {few(parts)}, {few(to_save)}"
        )
    for name, part in parts.items():
        try:
            to_save[name].load_state_dict(torch.load(io.BytesIO(part), weights_only=True))
        except Exception as error:
            raise AssertionError(
                f"assert_resumable: cut after iteration {cut}, {name!r} cannot load its saved state: {error!r}"
            ) from error


def _to_bytes(to_save: Mapping[str, Any]) -> bytes:
    """What a checkpoint holds; each object separately, so that one that cannot be loaded is named."""
    parts: dict[str, bytes] = {}
    for name, one in to_save.items():
        file = io.BytesIO()
        torch.save(one.state_dict(), file)
        parts[name] = file.getvalue()
        try:
            torch.load(io.BytesIO(parts[name]), weights_only=True)
        except pickle.UnpicklingError as error:
            raise AssertionError(
                f"assert_resumable: the state of {name!r} does not load with torch.load(weights_only=True): {error}"
            ) from error
    return pickle.dumps(parts)


def _compare(one: _Record, whole: _Record, cut: int, where: str, cause: str) -> None:
    """Raise at the first difference."""
    for moment, expected in zip_longest(one.moments, whole.after(cut)):
        if moment != expected:
            raise AssertionError(
                f"assert_resumable: {where}: it is {moment or 'over'}, the uncut run {expected or 'over'}. {cause}"
            )
        _compare_snapshots(one.moments[moment], whole.moments[moment], f"{where}, {moment}", cause)


def _compare_snapshots(one: Snapshot, whole: Snapshot, where: str, cause: str) -> None:
    # A metric that was computed before the cut only is absent.
    missing = [path for path in whole if path not in one and not path.startswith("metrics.")]
    for path in [*one, *missing]:
        found, expected = one.get(path, "nothing"), whole.get(path, "nothing")
        if found != expected:
            raise AssertionError(f"assert_resumable: {where}, {path} is {found} instead of {expected}. {cause}")


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The values inside nested mappings and sequences, in a form that can be compared and printed."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _flat(inner, f"{path}[{number}]")
    else:
        yield path, _comparable(value)


def _comparable(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        if value.numel() == 1 and not value.is_quantized:
            return f"tensor({value.item()!r}, {value.dtype})"
        value = value.contiguous()
        content = ctypes.string_at(value.data_ptr(), value.nbytes) if value.numel() else b""  # works without numpy
        return f"a tensor of {tuple(value.shape)}, {value.dtype}, {_digest(content)}"
    if isinstance(value, float) and math.isnan(value):
        return "nan"  # equal to another NaN
    if isinstance(value, numbers.Number | str | bytes | None):
        return value
    try:
        return f"a {type(value).__name__}, {_digest(pickle.dumps(value))}"
    except Exception:  # it cannot be pickled
        return f"a {type(value).__name__}"


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=4).hexdigest()
