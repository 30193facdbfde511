"""Where checkpoints are saved: in a folder, or by a custom saver."""

from __future__ import annotations

import inspect
import math
import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch

from ignite_core.distributed import utils as idist
from ignite_core.engine.engine import Engine
from ignite_core.engine.events import Events
from ignite_core.exceptions import CheckpointError
from ignite_core.handlers.checkpoint.naming import EXTENSION
from ignite_core.handlers.checkpoint.ranks import caught, saving_rank, share
from ignite_core.handlers.checkpoint.storage import commit as storage
from ignite_core.handlers.checkpoint.storage import fs as files
from ignite_core.handlers.checkpoint.storage.manifest import check_name
from ignite_core.handlers.checkpoint.storage.plain_values import check_loadable, plain_state

__all__ = ["BaseSaveHandler", "CloseAtRunEnd", "DiskSaver", "WriteFailed", "as_function", "as_saver"]

#: Priority of closing: after all handlers that may save at the same event.
_LATE = -1000


class BaseSaveHandler(ABC):
    """Saves the checkpoints of :class:`~ignite_core.handlers.Checkpoint`; derive from it to save them elsewhere.

    Attributes:
        saves_on_every_rank: A class attribute: all ranks call the saver, each with its part. By default one rank does.

    Example:
        >>> from ignite_core.engine import Engine, Events
        >>> from ignite_core.handlers import Checkpoint
        >>> class InMemory(BaseSaveHandler):
        ...     def __init__(self):
        ...         self.saved = {}
        ...
        ...     def __call__(self, checkpoint, filename, metadata=None):
        ...         self.saved[filename] = checkpoint
        ...
        ...     def remove(self, filename):
        ...         del self.saved[filename]
        >>> memory, trainer = InMemory(), Engine(lambda engine, batch: None)
        >>> checkpoint = Checkpoint({"model": torch.nn.Linear(1, 1)}, memory, n_saved=2)
        >>> handle = trainer.add_event_handler(Events.ITERATION_COMPLETED, checkpoint)
        >>> state = trainer.run(range(5))
        >>> list(memory.saved)
        ['model_4.pt', 'model_5.pt']
    """

    saves_on_every_rank: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, checkpoint: Mapping[str, Any], filename: str, metadata: Mapping[str, Any] | None = None) -> None:
        """Save a checkpoint.

        Args:
            checkpoint: States by name, or the state of a single object.
            filename: The file name.
            metadata: ``basename`` (prefix and name), ``score_name``, ``priority`` (higher is better), ``score``,
                ``step`` (iterations), ``objects`` (their names), ``trainer`` (the name of the engine), ``world_size``;
                ``hyperparameters`` that the script has set, if there are any.
        """

    @abstractmethod
    def remove(self, filename: str) -> None:
        """Remove a checkpoint that was saved; it may not exist any more.

        It is called after a newer one was saved, so a saver that uses one name for all must not remove that.
        """


class WriteFailed(CheckpointError):  # noqa: N818 - says what happened
    """The checkpoint ``filename`` could not be written in the background."""

    def __init__(self, message: str, filename: str) -> None:
        super().__init__(message)
        self.filename = filename


class DiskSaver(BaseSaveHandler):
    """Saves checkpoints as files of a folder, which :func:`torch.load` reads.

    A file appears under its name when all of it is on the disk, with its manifest ``NAME.json`` beside it, which has
    its digest. A save that fails changes nothing.

    On several ranks only ``save_on_rank`` accesses the folder.

    Args:
        dirname: The folder; ``~`` is the home folder.
        atomic: Accepted as in pytorch-ignite; in ignite_core a save is always atomic.
        create_dir: Create the folder if it does not exist.
        require_empty: The folder must not contain ``.pt`` files, so that two runs do not mix.
        save_on_rank: The rank that creates and checks the folder. The rank that writes is ``save_on_rank`` of the
            :class:`~ignite_core.handlers.Checkpoint`.
        kwargs: Arguments of :func:`torch.save`.

    Attributes:
        dirname: The folder, as a path.

    Raises:
        TypeError: If ``kwargs`` has an argument that :func:`torch.save` does not accept.
        ValueError: If the folder does not exist, or is not empty. On several ranks it is raised on ``save_on_rank``.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     saver = DiskSaver(folder)
        ...     saver({"epoch": 3}, "run.pt")
        ...     print(sorted(os.listdir(folder)), torch.load(f"{folder}/run.pt"))
        ['run.pt', 'run.pt.json'] {'epoch': 3}
    """

    _written: str | None = None  # file name of the last save
    _spared: str | None = None  # a file that must not be removed now

    def __init__(
        self,
        dirname: str | os.PathLike[str],
        atomic: bool = True,
        create_dir: bool = True,
        require_empty: bool = True,
        save_on_rank: int = 0,
        **kwargs: Any,
    ) -> None:
        unknown = sorted(kwargs.keys() - inspect.signature(torch.save).parameters.keys())
        if unknown:
            raise TypeError(f"{type(self).__name__}: must get its own arguments and those of torch.save, got {unknown}")
        self.dirname = Path(dirname).expanduser()
        self.save_on_rank = save_on_rank
        self.kwargs = kwargs
        if idist.get_rank() == saving_rank(save_on_rank):
            _prepare(self.dirname, create_dir, require_empty)

    def __call__(self, checkpoint: Mapping[str, Any], filename: str, metadata: Mapping[str, Any] | None = None) -> None:
        """Write a file.

        Raises:
            CheckpointError: If it could not be written, with the file, the step and the reason. Also if the state
                contains something that could not be loaded again safely: anything but tensors, numbers, strings, lists,
                tuples, sets and dictionaries; its place in the state is named. Scalars of numpy are saved as numbers.
        """
        about = self._about(metadata)
        path = self._target(filename)
        state = self._plain(checkpoint, path, about)
        storage.publish(path, lambda file: torch.save(state, file, **self.kwargs), about, check=check_loadable)

    def remove(self, filename: str) -> None:
        if filename != self._spared:
            storage.remove(self._path(filename))

    @contextmanager
    def removing(self) -> Iterator[None]:
        """While older checkpoints are removed, keep the file of the last save.

        A subclass may write all checkpoints to one file, which an older name then means too.
        """
        self._spared = self._written
        try:
            yield
        finally:
            self._spared = None

    def _target(self, filename: str) -> Path:
        """The path of a save."""
        self._written = filename
        return self._path(filename)

    def _path(self, filename: str) -> Path:
        check_name(filename)  # it may be read from a file, and must not lead out of the folder
        return self.dirname / filename

    def _plain(self, checkpoint: Any, path: Path, about: Mapping[str, Any]) -> Any:
        """The state as it is saved, of values that can be loaded again."""
        objects = about.get("objects", ())
        name = str(objects[0]) if len(objects) == 1 else ""  # else the keys are the names
        return plain_state(checkpoint, f"{path} (step {about.get('step')})", name)

    def _about(self, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
        """The entries of the manifest, as JSON: a score that is not finite is left out."""
        about = dict(metadata or {})
        for name in ("score", "priority"):
            if isinstance(about.get(name), float) and not math.isfinite(about[name]):
                about[name] = None
        return about


def _prepare(folder: Path, create: bool, require_empty: bool) -> None:
    if create:
        _make(folder)
    if not folder.is_dir():
        raise ValueError(f"DiskSaver: there must be a folder {str(folder)!r}; create it, or pass create_dir=True")
    if not require_empty:
        return
    found = sorted(name for name in os.listdir(folder) if name.endswith(f".{EXTENSION}"))
    if found:
        shown = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
        raise ValueError(
            f"DiskSaver: there must be no .{EXTENSION} file in {str(folder)!r}, got {shown}; choose another folder, or "
            "pass require_empty=False to go on with them"
        )


def _make(folder: Path) -> None:
    """Create a folder and its parents, and wait until their names are on the disk."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    for place in reversed(missing):
        files.mkdir(place)
        files.fsync_path(place.parent)


def as_saver(handler: Any, require_empty: bool, save_on_rank: int) -> Any:
    """The saver itself, or a :class:`DiskSaver` of a folder."""
    if isinstance(handler, str | os.PathLike):
        return DiskSaver(handler, require_empty=require_empty, save_on_rank=save_on_rank)
    if not callable(handler):
        raise TypeError(
            f"Checkpoint: save_handler must be a folder, a BaseSaveHandler or a function, got {type(handler).__name__}"
        )
    return handler


def as_function(saver: Callable[..., Any]) -> Callable[[Any, str, Mapping[str, Any]], Any]:
    """A saver as a function of three arguments; a custom one may have two."""
    try:
        inspect.signature(saver).bind(None, None, None)
    except TypeError:
        return lambda checkpoint, filename, metadata: saver(checkpoint, filename)
    except ValueError:  # a builtin without a signature
        pass
    return saver


class CloseAtRunEnd:
    """Waits for a background saver at the end of each run: calls ``saver.close()``, if it has such a method.

    Args:
        saver: Closed on the rank that saves; all ranks raise what its ``close`` raises.
        save_on_rank: The rank that saves.
    """

    def __init__(self, saver: Any, save_on_rank: int) -> None:
        self._close = getattr(saver, "close", None)
        self._rank = save_on_rank
        self._engines: weakref.WeakSet[Engine] = weakref.WeakSet()

    def attach(self, engine: Engine) -> None:
        """Close at the end of each run of the engine, or of its outermost parent, which runs longer. Idempotent."""
        while engine.parent is not None:
            engine = engine.parent
        if not callable(self._close) or engine in self._engines:
            return
        self._engines.add(engine)
        for event in (Events.TERMINATE, Events.INTERRUPT, Events.COMPLETED):
            engine.add_event_handler(event(priority=_LATE), self._end)
        engine.add_event_handler(Events.EXCEPTION_RAISED(priority=_LATE), self._fail)

    def _end(self, engine: Engine) -> None:
        if engine.last_event_name is Events.TERMINATE and engine.should_terminate != "skip_completed":
            return  # COMPLETED follows, where more may be saved
        error: Exception | None = None
        try:
            self._close_on_saving_rank()
        except Exception as failure:
            error = caught(failure)
        share("Checkpoint: what was being saved when the run ended is lost", error, None)

    def _fail(self, engine: Engine, error: BaseException) -> None:
        """After an error nothing is exchanged, and a second error is only noted on the first."""
        try:
            self._close_on_saving_rank()
        except Exception as failure:
            error.add_note(f"A save in progress failed too: {type(failure).__name__}: {failure}")

    def _close_on_saving_rank(self) -> None:
        if idist.get_rank() == saving_rank(self._rank):
            assert self._close is not None
            self._close()
