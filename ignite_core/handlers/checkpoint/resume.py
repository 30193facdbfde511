"""Continue a run from the newest valid checkpoint."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ignite_core.distributed import utils as idist
from ignite_core.distributed.failures.api import agreed
from ignite_core.engine.engine import Engine
from ignite_core.exceptions import CheckpointError, few, shown
from ignite_core.handlers.checkpoint.adoption import adopt, checkpoint_handlers, scan_folders
from ignite_core.handlers.checkpoint.checkpoint import Checkpoint
from ignite_core.handlers.checkpoint.dcp_reader import read_folder
from ignite_core.handlers.checkpoint.hyperparameters import Built, built_of, differences, keep_built, saved_of
from ignite_core.handlers.checkpoint.naming import EXTENSION
from ignite_core.handlers.checkpoint.ranks import caught, share
from ignite_core.handlers.checkpoint.restore import Restoring
from ignite_core.handlers.checkpoint.states import by_name, check_objects
from ignite_core.handlers.checkpoint.storage.load import load, verify_checkpoint
from ignite_core.handlers.checkpoint.storage.scan import Damage, Manifest, Verify, find_manifest, manifest_path, scan

__all__ = ["Resumed", "resume"]

#: The name of the trainer in a checkpoint that does not say.
_TRAINER = "trainer"

#: Suffixes of checkpoints: a path with one of them is that of a single checkpoint, which must exist.
_SUFFIXES = (f".{EXTENSION}", ".pth", ".ckpt", ".tar", ".bin")

#: The number of names that a message lists.
_SHOWN = 6


@dataclass(frozen=True)
class Resumed:
    """What :func:`resume` did.

    Attributes:
        path: The checkpoint that was loaded; None if there was none, and the run starts from the beginning.
        step: Iterations that the run had done when it was saved, according to the manifest.
        epoch: Epochs that the trainer has completed now; an epoch that was saved before EPOCH_COMPLETED is not counted.
        iteration: Iterations that the trainer has done now.
        objects: Names of the loaded objects.
        skipped: Newer checkpoints that could not be used, each with the reason.

    Example:
        >>> print(Resumed(Path("runs/checkpoint_30.pt"), 30, 3, 30, ("model", "trainer")))
        resumed from runs/checkpoint_30.pt: 3 epochs, 30 iterations; loaded model, trainer
        >>> print(Resumed())
        nothing to resume from: a fresh start
    """

    path: Path | None = None
    step: int | None = None
    epoch: int = 0
    iteration: int = 0
    objects: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        if self.path is None:
            return "nothing to resume from: a fresh start"
        skipped = "".join(f"; passed over {name}: {reason}" for name, reason in self.skipped)
        return shown(
            f"resumed from {self.path}: {self.epoch} epochs, {self.iteration} iterations; "
            f"loaded {', '.join(self.objects)}{skipped}"
        )


def resume(
    trainer: Engine,
    to_load: Mapping[str, Any],
    folder: str | os.PathLike[str],
    *,
    prefix: str | None = None,
    verify: Verify = "full",
    map_location: str | torch.device | None = "cpu",
    strict: bool = True,
    checkpoint: Checkpoint | Iterable[Checkpoint] = (),
    keep: Collection[str] = (),
) -> Resumed:
    """Load the newest valid checkpoint that contains all objects; the next ``trainer.run`` continues from there.

    A damaged checkpoint is skipped, with a warning, for the one before it. Either all objects are loaded, or, if
    anything does not fit, none. Each :class:`~ignite_core.handlers.Checkpoint` takes over what it has saved into its
    folder, so that its best score and ``n_saved`` count the files of earlier runs too. On several ranks all must call
    it; only the first one searches the folder, and all load the same checkpoint.

    Args:
        trainer: The engine whose run continues. It must have been saved too; it is found under the name it was saved
            under, and need not be in ``to_load``.
        to_load: Names, as they were saved, and objects with ``load_state_dict``.
        folder: Where the checkpoints are. If it does not exist, or has none, the run starts from the beginning. Or the
            path of a single checkpoint (``*.pt``), also of one that was not saved by this library; it must exist.
        prefix: Only checkpoints whose names begin with it.
        verify: ``"full"`` compares every byte with the manifest, ``"size"`` only sizes.
        map_location: As for :func:`torch.load`; objects move their states where they need them.
        strict: Modules must have exactly the saved keys.
        checkpoint: Handlers, besides those attached to ``trainer``, that take over their files: those of evaluators.
        keep: Hyperparameters of optimizers and of torch's schedulers, such as ``("lr", "weight_decay")``, that stay as
            this script sets them. By default the saved ones are loaded, with one warning if the script has been changed
            since. A rate that a scheduler of torch, loaded too, has changed is changed by the same factor.

    Returns:
        What was done; ``print`` it.

    Raises:
        TypeError: If an object has no ``load_state_dict``.
        ValueError: If no loaded object has a hyperparameter named in ``keep``.
        CheckpointError: If there are checkpoints, but none is valid, or none contains all objects; if the newest valid
            one does not fit the objects, or the named one does not exist. Nothing was changed then. On several ranks
            all raise it.

    Example:
        >>> import tempfile
        >>> from ignite_core.engine import Events
        >>> def train(folder, max_epochs):
        ...     model, trainer = torch.nn.Linear(1, 1), Engine(lambda engine, batch: None)
        ...     objects = {"model": model, "trainer": trainer}
        ...     checkpoint = Checkpoint(objects, folder, n_saved=2, require_empty=False)
        ...     checkpoint.attach(trainer, Events.EPOCH_COMPLETED)
        ...     resumed = resume(trainer, objects, folder)
        ...     trainer.run(range(10), max_epochs=max_epochs)
        ...     return resumed.iteration, trainer.state.iteration
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     print(train(folder, 2), train(folder, 5))
        (0, 20) (20, 50)
    """
    check_objects(to_load, "load_state_dict", "resume")
    place = Path(folder).expanduser()
    handlers = checkpoint_handlers(trainer, checkpoint)
    built = _built(to_load, keep)
    found = _look(place, prefix)
    if not found.known and found.single is None:
        for handler in handlers:
            handler._built.update(built_of(handler.to_save))
        return Resumed(epoch=trainer.state.epoch, iteration=trainer.state.iteration)
    one, payload, skipped = _first_whole(found, _chosen(found, to_load, trainer), verify, map_location)
    path, step = found.folder / one.name, one.about.get("step")
    objects = _with_trainer(trainer, to_load, one, payload)
    folders = scan_folders(handlers)
    _load_everywhere(objects, payload, path, one.kind, strict, verify)
    saved = saved_of(one.about.get("hyperparameters"), by_name(objects, payload))
    _settle(objects, keep, built, saved, handlers)
    adopt(handlers, folders, step, [found.folder.resolve() / name for name in skipped])
    return Resumed(path, step, trainer.state.epoch, trainer.state.iteration, tuple(objects), tuple(skipped.items()))


def _built(to_load: Mapping[str, Any], keep: Collection[str]) -> Built:
    """The hyperparameters that the script has set."""
    if isinstance(keep, str):
        raise TypeError(f"resume: keep must be names of hyperparameters, as in ('lr',), got {keep!r}")
    built = built_of(to_load)
    unknown = [key for key in keep if not any(key in values for values in built.values())]
    if unknown:
        known = sorted({key for values in built.values() for key in values})
        raise ValueError(f"resume: keep must name hyperparameters of what is loaded, got {unknown}, there are {known}")
    return built


def _settle(
    objects: Mapping[str, Any], keep: Collection[str], built: Built, saved: Built, handlers: Iterable[Checkpoint]
) -> None:
    """Apply ``keep``; warn once about other differences. Later saves contain the values that are in use now."""
    keep_built(objects, keep, built, saved)
    in_force = {
        path: {**values, **{key: each for key, each in saved.get(path, {}).items() if key not in keep}}
        for path, values in built.items()
    }
    notes: Built = {}
    for handler in handlers:
        notes.update(handler._built)
        handler._built.update({path: values for path, values in in_force.items() if path in handler._built})
    found = differences(in_force, built, {**built, **{path: notes[path] for path in notes if path in built}})
    if found and idist.get_rank() == 0:
        warnings.warn(
            f"resume: saved hyperparameters are used where this script sets others: {', '.join(found)}; pass "
            "keep=('lr',) or the like to use those of the script",
            stacklevel=3,
        )


@dataclass(frozen=True)
class _Found:
    """What the first rank has found, newest first."""

    folder: Path
    known: list[Manifest]
    damaged: dict[str, Damage]
    single: Manifest | None = None  # the checkpoint whose path was given


def _look(place: Path, prefix: str | None) -> _Found:
    """Search the folder on the first rank, and send the result to all."""
    error: Exception | None = None
    found = _Found(place, [], {})
    if idist.get_rank() == 0:
        try:
            found = _look_here(place, prefix)
        except (OSError, CheckpointError) as failure:
            error = failure
    return share(f"resume from {place}", error, found)[0]


def _look_here(place: Path, prefix: str | None) -> _Found:
    single = find_manifest(place)
    if single is not None:
        return _Found(place.parent, [], {}, single)
    if place.is_file():
        return _Found(place.parent, [], {}, single=Manifest(place.name, "file", {}, 0, 0.0, ""))
    if not place.exists():
        if place.suffix in _SUFFIXES:
            raise CheckpointError(f"resume: there must be a checkpoint {str(place)!r}, {_there(place.parent)}")
        return _Found(place, [], {})
    seen = scan(place, prefix)
    found = _Found(place, seen.manifests, seen.damaged)
    if found.damaged and not found.known:
        reasons = "; ".join(damage.reason for damage in found.damaged.values())
        raise CheckpointError(f"none of the checkpoints is whole: {reasons}")
    foreign = [path for path in place.glob(f"*.{EXTENSION}") if path.name.startswith(prefix or "")]
    if foreign and not found.known:
        warnings.warn(
            f"resume: the {len(foreign)} .{EXTENSION} files in {place} have no manifest, so they cannot be verified, "
            "and the run starts from the beginning; pass the path of one to load it",
            stacklevel=4,
        )
    if found.known:
        _warn_of_lost_manifest(place, found.known, foreign)
    return found


def _warn_of_lost_manifest(folder: Path, known: list[Manifest], files: list[Path]) -> None:
    """Warn of a file named like the newest checkpoint that is newer and has no manifest: it seems to have lost it."""
    newest, names = known[0], {one.name for one in known}
    try:
        time = (folder / newest.name).stat().st_mtime_ns
        lost = [path.name for path in files if path.stat().st_mtime_ns > time and not manifest_path(path).exists()]
    except OSError:  # one was removed meanwhile
        return
    alike = [name for name in lost if name not in names and name.startswith(f"{newest.about.get('basename')}_")]
    if alike:
        text = f"resume: {max(alike)} is newer than {newest.name}, but has no manifest, so it cannot be verified"
        warnings.warn(f"{shown(text)}: it is skipped; pass its path to load it", stacklevel=5)


def _there(folder: Path) -> str:
    """The checkpoints in a folder, for an error."""
    if not folder.is_dir():
        return "its folder does not exist either"
    names = [one.name for one in scan(folder).manifests]
    names += sorted({path.name for path in folder.iterdir() if path.suffix in _SUFFIXES} - set(names))
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"its folder has {names[:_SHOWN]}{more}" if names else "there are none in its folder"


def _chosen(found: _Found, to_load: Mapping[str, Any], trainer: Engine) -> list[Manifest]:
    """Those that contain all objects. Raises CheckpointError if there is none."""
    if found.single is not None:
        return [found.single]
    wanted = [name for name, obj in to_load.items() if obj is not trainer]
    chosen = [one for one in found.known if _holds(one.about, wanted)]
    if not chosen:
        newest = found.known[0]
        raise agreed(
            CheckpointError(
                f"resume from {found.folder}: a checkpoint must hold {few(wanted)} and the trainer, none of the "
                f"{len(found.known)} does; the newest, {newest.name}, holds "
                f"{few(newest.about.get('objects') or ())}. Save {{..., {_TRAINER!r}: trainer}}, "
                "or ask for what is there"
            )
        )
    return chosen


def _holds(about: Mapping[str, Any], wanted: Collection[str]) -> bool:
    objects = about.get("objects")
    if not isinstance(objects, list) or not set(wanted) <= set(objects):
        return False
    return about.get("trainer") in objects or _TRAINER in objects


def _first_whole(
    found: _Found, chosen: Iterable[Manifest], verify: Verify, map_location: Any
) -> tuple[Manifest, Any, dict[str, str]]:
    """The newest that every rank can read, its content (of a folder: None), and why newer ones were skipped.

    Raises:
        CheckpointError: If there is none.
    """
    skipped: dict[str, str] = {}
    for one in chosen:
        error, payload = None, None
        try:
            payload = _read(found.folder / one.name, one.kind, verify, map_location)
        except CheckpointError as failure:
            error = caught(failure)
        gathered = idist.all_gather_object(None if error is None else str(error))
        reasons = {reason for reason in gathered if reason is not None}
        if not reasons:
            damaged = found.damaged.items()
            skipped |= {name: bad.reason for name, bad in damaged if bad.serial is None or bad.serial > one.serial}
            if skipped and idist.get_rank() == 0:
                why = "; ".join(skipped.values())
                warnings.warn(f"resume: took {shown(one.name)}, as others cannot be used: {why}", stacklevel=3)
            return one, payload, skipped
        skipped[one.name] = "; ".join(sorted(reasons))
    why = "; ".join([*skipped.values(), *(bad.reason for bad in found.damaged.values())])
    raise agreed(CheckpointError(f"resume from {found.folder}: none of the checkpoints is whole: {why}"))


def _read(path: Path, kind: str, verify: Verify, map_location: Any) -> Any:
    """Load a file; each rank verifies what it loads, which may be on a local disk.

    A folder is not read yet; the first rank verifies all of it.
    """
    if kind == "file":
        return load(path, verify=verify, map_location=map_location)
    if idist.get_rank() == 0:
        verify_checkpoint(path, verify)
    return None


def _with_trainer(trainer: Engine, to_load: Mapping[str, Any], one: Manifest, payload: Any) -> dict[str, Any]:
    """The objects to load, with the trainer under the name it was saved under."""
    held = one.about.get("objects")  # a single object is saved bare, so the payload may not say
    held = held if isinstance(held, list) else list(payload) if isinstance(payload, Mapping) else []
    objects = {name: obj for name, obj in to_load.items() if obj is not trainer}
    asked = [name for name, obj in to_load.items() if obj is trainer]
    name = next((name for name in (one.about.get("trainer"), *asked, _TRAINER) if name in held), None)
    if name is None and not objects and "iteration" in held:  # the bare state of a trainer, without a manifest
        name = (*asked, _TRAINER)[0]
    if name is None or name in objects:
        raise agreed(
            CheckpointError(
                f"resume: the trainer must be in {one.name} beside {few(objects)}, got {few(held)}; save "
                f"{{..., {_TRAINER!r}: trainer}}, or load what is there with Checkpoint.load_objects"
            )
        )
    return {**objects, name: trainer}


def _load_everywhere(
    objects: Mapping[str, Any], payload: Any, path: Path, kind: str, strict: bool, verify: Verify
) -> None:
    """Load on all ranks, or on none."""
    if kind == "folder":
        payload = read_folder(path, objects, verify=verify, is_verified=True)
    what = f"resume from {path}"
    restoring, error = None, None
    try:
        restoring = Restoring(objects, payload, path.name, **({} if strict else {"strict": False}))
    except Exception as failure:
        error = caught(failure)
    share(what, error, None)
    assert restoring is not None
    try:
        restoring.load_risky()
    except Exception as failure:
        error = caught(failure)
    try:
        share(what, error, None)
        restoring.load_safe()
    except BaseException:  # another rank failed, or this one was interrupted
        restoring.roll_back()
        raise
