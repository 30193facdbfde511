"""After a resume, handlers take over the checkpoints of earlier runs in their folders."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from ignite_core.distributed import utils as idist
from ignite_core.engine.engine import Engine
from ignite_core.exceptions import CheckpointError
from ignite_core.handlers.checkpoint.checkpoint import Checkpoint
from ignite_core.handlers.checkpoint.naming import object_name
from ignite_core.handlers.checkpoint.ranks import saving_rank, share
from ignite_core.handlers.checkpoint.retention import Item
from ignite_core.handlers.checkpoint.savers import DiskSaver
from ignite_core.handlers.checkpoint.storage.scan import Manifest, scan

__all__ = ["adopt", "checkpoint_handlers", "scan_folders"]

#: The checkpoints in each folder, newest first.
Folders: TypeAlias = dict[Path, list[Manifest]]


def checkpoint_handlers(trainer: Engine, more: Checkpoint | Iterable[Checkpoint]) -> list[Checkpoint]:
    """The checkpoint handlers attached to the trainer, that of its StopOnSignal, and those given."""
    attached: list[Any] = [registration.handler for registration in trainer.handlers()]
    attached = [getattr(handler, "handler", handler) for handler in attached]  # of an interval trigger
    attached += [getattr(getattr(scope, "__self__", None), "_save", None) for scope in trainer.run_contexts()]
    given = [more] if isinstance(more, Checkpoint) else list(more)
    handlers = [handler for handler in (*attached, *given) if isinstance(handler, Checkpoint)]
    return list({id(handler): handler for handler in handlers}.values())


def scan_folders(handlers: Iterable[Checkpoint]) -> Folders:
    """The complete checkpoints in the folder of each handler, as the saving rank sees it. All ranks must call it.

    Raises:
        CheckpointError: On all ranks, if a folder cannot be read.
    """
    found: Folders = {}
    error: Exception | None = None
    try:
        for handler in handlers:
            folder = _folder(handler)
            if folder is not None and idist.get_rank() == saving_rank(handler.save_on_rank) and folder.is_dir():
                found[folder] = scan(folder).manifests
    except (OSError, CheckpointError) as failure:
        error = failure
    gathered = share("resume: a folder of a Checkpoint could not be read", error, found)
    return {folder: manifests for of_rank in gathered for folder, manifests in of_rank.items()}


def adopt(handlers: Iterable[Checkpoint], folders: Folders, step: int | None, damaged: Collection[Path]) -> None:
    """Let each handler take over the checkpoints in its folder that it, or a handler like it, has saved.

    One that several handlers may have saved goes to the handler that keeps most, so that nothing is removed that one of
    them would keep. Without scores, what was saved after ``step`` is left alone, since the run will reach it again.
    """
    for folder, manifests in folders.items():
        items: dict[Checkpoint, list[Item]] = {handler: [] for handler in handlers if _folder(handler) == folder}
        for one in reversed(manifests):
            owner = _owner(list(items), one)
            of_step = one.about.get("step")
            is_ahead = step is not None and isinstance(of_step, int) and of_step > step
            is_left = owner is None or (is_ahead and owner.score_function is None) or folder / one.name in damaged
            if owner is not None and not is_left:
                items[owner].append(Item(one.about.get("priority"), one.name))
        for handler, own in items.items():
            handler.adopt(own)


def _folder(handler: Checkpoint) -> Path | None:
    saver = handler.save_handler
    return saver.dirname.resolve() if isinstance(saver, DiskSaver) else None


def _owner(handlers: list[Checkpoint], one: Manifest) -> Checkpoint | None:
    """The handler of a folder that has saved a checkpoint."""
    alike = [handler for handler in handlers if _saves_such(handler, one.about)]
    by_name = [handler for handler in alike if handler._naming.fits(_name(handler, one.about), one.name)]
    return max(by_name or filter(_may_rename, alike), key=_keeps, default=None)


def _may_rename(handler: Checkpoint) -> bool:
    """Whether its saver is a custom one, which may choose another file name."""
    return not type(handler.save_handler).__module__.startswith("ignite_core.")


def _saves_such(handler: Checkpoint, about: Mapping[str, Any]) -> bool:
    by_step = about.get("score") is None and about.get("priority") is not None
    return (
        about.get("basename") == handler._naming.basename(_name(handler, about))
        and about.get("score_name") == handler.score_name
        and by_step == (handler.score_function is None)
    )


def _name(handler: Checkpoint, about: Mapping[str, Any]) -> str:
    """The name of what a handler saves; a ModelCheckpoint may not have its objects yet."""
    objects = about.get("objects")
    return object_name(handler.to_save or (objects if isinstance(objects, list) else ()))


def _keeps(handler: Checkpoint) -> tuple[float, float]:
    return (float("inf") if handler.n_saved is None else handler.n_saved, handler.keep_last or 0)
