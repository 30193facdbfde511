"""The handler that saves checkpoints.

One call, on all ranks:

1. pending votes about the run are resolved; nothing is saved of a run that is known to be bad;
2. ``save_on_rank`` decides whether this checkpoint is to stay, and under which name;
3. every rank collects the states of its objects;
4. one rank writes (all of them, if the saver says so);
5. only then are older checkpoints removed.

After each of these steps the ranks exchange whether it succeeded: all continue, or all raise.
"""

from __future__ import annotations

import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Final

from torch.nn import Module

from ignite_core.distributed import utils as idist
from ignite_core.engine.engine import Engine
from ignite_core.engine.events import EventEnum, EventName, Events
from ignite_core.engine.registration import RemovableHandle
from ignite_core.exceptions import RankFailed, few
from ignite_core.handlers._global_step import clock_of
from ignite_core.handlers.checkpoint import naming, retention, savers, scores
from ignite_core.handlers.checkpoint.hyperparameters import built_of
from ignite_core.handlers.checkpoint.interval_trigger import IntervalTrigger
from ignite_core.handlers.checkpoint.ranks import caught, collect_states, is_unsafe_to_save, saving_rank, share
from ignite_core.handlers.checkpoint.restore import load_objects
from ignite_core.handlers.checkpoint.savers import BaseSaveHandler, DiskSaver
from ignite_core.handlers.checkpoint.sharded import is_sharded
from ignite_core.handlers.checkpoint.states import check_objects

__all__ = ["Checkpoint", "CheckpointEvents"]

#: The name under which a handler saves its own state.
SELF: Final = "checkpointer"

#: A run ends with one or several of these events; at each the same state would be saved.
ENDS: Final = frozenset({Events.TERMINATE, Events.COMPLETED, Events.INTERRUPT, Events.EXCEPTION_RAISED})

#: A step or a score in a file name that was read from a file.
_NUMBER = r"[A-Za-z0-9.+-]+"


class CheckpointEvents(EventEnum):
    """Events that a :class:`Checkpoint` fires on the engine it is attached to. They need not be registered.

    - ``SAVED_CHECKPOINT``: a checkpoint was saved (with a background saver: handed to it).
    """

    SAVED_CHECKPOINT = "saved_checkpoint"

    @property
    def registers_itself(self) -> bool:
        return True


@dataclass(frozen=True)
class _Save:
    """A save that ``save_on_rank`` has decided on."""

    filename: str
    kept: retention.Kept  #: what stays afterwards
    removed: list[str]
    metadata: dict[str, Any]
    key: tuple[Any, ...]  #: two saves of a run with the same key are the same


class Checkpoint:
    """Saves objects when it is called, and keeps the best or the newest checkpoints.

    Attach it to any event, on all ranks. Its priority is -20: it runs after the other handlers of the event, so that
    what they change is saved too.

    Args:
        to_save: Names and objects with ``state_dict``: models, optimizers, schedulers, the trainer itself; also lists
            and dictionaries of such objects. Wrappers of a model (DataParallel, DistributedDataParallel, torch.compile)
            leave no trace in the keys. A single object is saved bare, so that
            ``model.load_state_dict(torch.load(path))`` works, several ones by name.
        save_handler: A folder, a :class:`~ignite_core.handlers.BaseSaveHandler` such as
            :class:`~ignite_core.handlers.DiskSaver`, or a function of (checkpoint, file name) or (checkpoint, file
            name, metadata).
        filename_prefix: Prefix of file names.
        score_function: ``score_function(engine) -> number``; the checkpoints with the highest scores stay. None, NaN
            and infinities are never among the best. Without it those with the highest steps stay.
        score_name: Name of the score in file names, where ``val/acc`` is ``val_acc``. Without ``score_function``
            the score is ``engine.state.metrics[score_name]``, negated if the metric attached under this name is
            better when it is smaller.
        n_saved: Number of the best that stay; None for all.
        global_step_transform: ``global_step_transform(engine, event) -> step``, for file names. By default the
            iterations of the engine, or, on an evaluator, of the trainer that runs it.
        filename_pattern: Pattern of file names, with ``{filename_prefix}``, ``{name}``, ``{global_step}``,
            ``{score_name}``, ``{score}`` and ``{ext}``. The default is described below.
        include_self: Also save the state of this handler (which checkpoints it keeps), as ``"checkpointer"``.
        greater_or_equal: Of equal scores the latest stays; by default the earliest.
        save_on_rank: The rank that decides and writes, and the only one that accesses the file system; 0 if there is
            no such rank.
        keep_last: Number of the newest that stay besides the best, regardless of score. File names then contain the
            step.
        require_empty: If ``save_handler`` is a folder: it must not contain ``.pt`` files.

    Attributes:
        SAVED_CHECKPOINT: The event that is fired after each save.
        ext: The extension of file names, ``"pt"``.

    The default file name is ``{filename_prefix}_{name}_{global_step}_{score_name}={score}.pt``, where the name is that
    of the only object or ``checkpoint``. It contains the score if there is a score function, after ``{score_name}=`` if
    there is a ``score_name``; a score has four decimals unless it is whole. It contains the step if there is a
    ``global_step_transform`` or ``keep_last``, or no score function.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If arguments contradict each other, file names would not be valid, or the folder is not empty.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from torch import nn
        >>> trainer, model = Engine(lambda engine, batch: None), nn.Linear(1, 1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     checkpoint = Checkpoint({"model": model, "trainer": trainer}, folder, n_saved=2)
        ...     handle = trainer.add_event_handler(Events.EPOCH_COMPLETED, checkpoint)
        ...     state = trainer.run(range(10), max_epochs=3)
        ...     print(checkpoint.newest_checkpoint.name, sorted(path.name for path in Path(folder).glob("*.pt")))
        checkpoint_30.pt ['checkpoint_20.pt', 'checkpoint_30.pt']
    """

    SAVED_CHECKPOINT: ClassVar[CheckpointEvents] = CheckpointEvents.SAVED_CHECKPOINT
    Item: ClassVar[type[retention.Item]] = retention.Item

    event_priority = -20

    def __init__(
        self,
        to_save: Mapping[str, Any],
        save_handler: str | PathLike[str] | Callable[..., Any] | BaseSaveHandler,
        filename_prefix: str = "",
        score_function: Callable[[Any], Any] | None = None,
        score_name: str | None = None,
        n_saved: int | None = 1,
        global_step_transform: Callable[[Any, Any], Any] | None = None,
        filename_pattern: str | None = None,
        include_self: bool = False,
        greater_or_equal: bool = False,
        save_on_rank: int = 0,
        *,
        keep_last: int | None = None,
        require_empty: bool = True,
    ) -> None:
        check_objects(to_save, "state_dict", "Checkpoint")
        if include_self and SELF in to_save:
            raise ValueError(f"Checkpoint: with include_self no object may be called {SELF!r}, got {few(to_save)}")
        for name, function in (("global_step_transform", global_step_transform), ("score_function", score_function)):
            if function is not None and not callable(function):
                raise TypeError(f"Checkpoint: {name} must be callable, got {type(function).__name__}")
        if score_function is None and score_name is not None:
            score_function = self.get_default_score_fn(score_name)
        if keep_last is not None and filename_pattern is not None and "{global_step}" not in filename_pattern:
            raise ValueError(
                "Checkpoint: with keep_last there must be {global_step} in filename_pattern, or a newer one replaces "
                f"the best, got {filename_pattern!r}"
            )
        self.to_save = to_save
        self.filename_prefix = filename_prefix
        self.score_function = score_function
        self.score_name = score_name
        self.global_step_transform = global_step_transform
        self.filename_pattern = filename_pattern
        self.include_self = include_self
        self.save_on_rank = save_on_rank
        self.ext = naming.EXTENSION
        self._retention = retention.Retention(n_saved, keep_last, greater_or_equal)
        self._naming = naming.Naming(filename_prefix, score_function is not None, score_name, filename_pattern)
        self._saved = retention.SavedCheckpoints()
        self._built = built_of(to_save)
        self._last_key: tuple[Any, ...] = ()
        self._last_event: Any = None
        self._last_run: Any = None  # state.times of the run of the last save: another object in each run
        self._use(savers.as_saver(save_handler, require_empty, save_on_rank))
        if isinstance(self.save_handler, DiskSaver):
            self._naming.check()

    def _use(self, saver: Any) -> None:
        self.save_handler = saver
        self._hand_over = savers.as_function(saver)
        self._closing = savers.CloseAtRunEnd(saver, self.save_on_rank)

    def attach(
        self,
        engine: Engine,
        event: EventName | None = None,
        *,
        every: int | None = None,
        every_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> RemovableHandle:
        """Save at an event, every ``every`` iterations, every ``every_s`` seconds, or all of these.

        Args:
            engine: The trainer, or an evaluator that it runs.
            event: An event, or several joined by ``|``.
            every: Iterations from one save to the next.
            every_s: Seconds from one save to the next. The clock is read after each iteration; on several ranks that of
                ``save_on_rank`` decides for all, a few iterations later (see :class:`~ignite_core.handlers.Vote`).
            clock: Returns the time in seconds.

        Returns:
            A handle that detaches it.

        Raises:
            ValueError: If neither is given, or a period is not positive.

        Example:
            >>> from torch import nn
            >>> trainer = Engine(lambda engine, batch: None)
            >>> checkpoint = Checkpoint({"model": nn.Linear(1, 1)}, lambda state, filename: print(filename))
            >>> handle = checkpoint.attach(trainer, Events.COMPLETED, every=4)
            >>> state = trainer.run(range(10))
            model_4.pt
            model_8.pt
            model_10.pt
        """
        if event is None and every is None and every_s is None:
            raise ValueError("Checkpoint.attach: say when to save: event, every (iterations) or every_s (seconds)")
        handlers: list[tuple[EventName, Callable[..., Any]]] = []
        if every is not None:
            handlers.append((Events.ITERATION_COMPLETED(every=every), self))
        if event is not None:
            handlers.append((event, self))
        if every_s is not None:
            handlers.append((Events.ITERATION_COMPLETED, IntervalTrigger(self, every_s, clock, self.save_on_rank)))
        return RemovableHandle(*[engine.add_event_handler(at, handler).remove for at, handler in handlers])

    def __call__(self, engine: Engine, *extras: Any, **named: Any) -> None:
        """Save, if this checkpoint is to stay. On several ranks all must call it.

        Raises:
            CheckpointError: If it could not be saved; older ones are unchanged. On several ranks all raise it, with
                the ranks that failed.
        """
        if not self.to_save:
            raise RuntimeError("Checkpoint: there must be objects to save, got none")
        event = engine.last_event_name
        try:
            self._save(engine, event)
        except RankFailed as error:
            if event is not Events.EXCEPTION_RAISED:
                raise
            # The ranks are at different places, so there is no common state to save, and the first error matters more.
            engine.logger.warning("Checkpoint: nothing was saved after the error: %s", error)
        engine.last_event_name = event

    def _save(self, engine: Engine, event: EventName | None) -> None:
        is_unsafe = is_unsafe_to_save(engine)  # on all ranks, unless the handler that found it acts on this rank alone
        self._closing.attach(engine)
        rank = saving_rank(self.save_on_rank)
        save = self._agree(engine, event, rank, is_unsafe)
        if save is None:
            return
        what = f"Checkpoint: {save.filename} was not saved"
        is_writer = self._on_every_rank or rank == idist.get_rank()
        states = collect_states(self.to_save, what, rank, not self._on_every_rank)
        checkpoint: Any = None
        if is_writer and self.include_self:
            checkpoint = {**states, SELF: save.kept.state_dict()}
        elif is_writer:
            checkpoint = next(iter(states.values())) if len(states) == 1 else states
        self._write(checkpoint, save, rank, is_writer)
        self._saved.newest, self._last_key, self._last_event = save.filename, save.key, event
        self._last_run = clock_of(engine, event).state.times
        engine.fire_event(CheckpointEvents.SAVED_CHECKPOINT)

    def _agree(self, engine: Engine, event: EventName | None, rank: int, is_unsafe: bool) -> _Save | None:
        """The save of ``save_on_rank``; None if the state is bad, would not stay, or was saved already."""
        error, decided = None, None
        try:
            decided = None if is_unsafe else self._decide(engine, event)
        except Exception as failure:
            error = caught(failure)
        mine = (self.filename_prefix, list(self.to_save))
        gathered = share("Checkpoint: the score or the step could not be found", error, (mine, is_unsafe, decided))
        if any(what != mine for what, _, _ in gathered):
            share("Checkpoint: all ranks must save the same at one event", ValueError(f"it saves {mine}"), None)
        save: _Save | None = gathered[rank][2]
        return None if any(is_unsafe for _, is_unsafe, _ in gathered) else save

    def _decide(self, engine: Engine, event: EventName | None) -> _Save | None:
        """What this rank would save; None if it would not stay, or was saved already."""
        clock, saved = clock_of(engine, event), self._saved
        step = clock.state.iteration
        global_step = None if self.global_step_transform is None else self.global_step_transform(engine, event)
        score = None if self.score_function is None else scores.as_number(self.score_function(engine), "score_function")
        if global_step is None and (self.score_function is None or self.keep_last is not None):
            global_step = step
        name = naming.object_name(self.to_save)
        filename, basename = self._naming.filename(name, global_step, score), self._naming.basename(name)
        by = scores.as_number(global_step, "global_step_transform") if self.score_function is None else score
        priority = scores.as_python_number(by)
        key = (filename, step, repr(priority))
        is_saved = filename == saved.newest and key == self._last_key and clock.state.times is self._last_run
        if is_saved and (event in ENDS or event == self._last_event):
            return None
        if not self._retention.wants(saved.kept, priority):
            return None
        kept, removed = self._retention.after(saved.kept, retention.Item(priority, filename))
        metadata: dict[str, Any] = {
            "basename": basename,
            "score_name": self.score_name,
            "priority": priority,
            "score": None if self.score_function is None else priority,
            "step": step,
            "objects": [*self.to_save, *([SELF] if self.include_self else [])],
            "trainer": next((name for name, obj in self.to_save.items() if obj is clock), None),
            "world_size": idist.get_world_size(),
        }
        if self._built:
            metadata["hyperparameters"] = self._built
        return _Save(filename, kept, removed, metadata, key)

    @property
    def collective(self) -> str:
        """The name by which ranks compare their handlers."""
        return f"Checkpoint {self.filename_prefix!r}" if self.filename_prefix else "Checkpoint"

    def why_not_alone(self) -> str | None:
        """The reason why one rank alone cannot save, if there is one."""
        if self._on_every_rank:
            return f"{type(self.save_handler).__name__} saves on every rank"
        parts = [value for one in self.to_save.values() for value in (one if isinstance(one, list | tuple) else [one])]
        modules = (part for part in parts if isinstance(part, Module))
        if any(is_sharded(list(module.parameters())) for module in modules):
            return "it saves a model that is sharded over the ranks"
        return None

    @property
    def _on_every_rank(self) -> bool:
        return bool(getattr(self.save_handler, "saves_on_every_rank", False))

    def _write(self, checkpoint: Any, save: _Save, rank: int, is_writer: bool) -> None:
        """Hand the checkpoint to the saver, then update the bookkeeping and remove older checkpoints."""
        saved, stay = self._saved, save.kept.filenames
        doing, error = "was not saved", None
        try:
            if is_writer:
                self._hand_over(checkpoint, save.filename, save.metadata)
                doing = "was saved, but not all older ones could be removed"
                saved.kept = save.kept
                self._remove([name for name in (*saved.to_remove, *save.removed) if name not in stay])
        except Exception as failure:
            if isinstance(failure, savers.WriteFailed):  # of an earlier save
                saved.kept = saved.kept.without(failure.filename)
            error = caught(failure)
        gathered = share(f"Checkpoint: {save.filename} {doing}", error, getattr(self.save_handler, "_written", None))
        saved.kept = save.kept
        written = gathered[rank]
        if written not in (None, save.filename):
            kept = {name: file for name, file in saved.renamed.items() if name in stay}
            saved.renamed = {**kept, save.filename: written}

    def _remove(self, filenames: list[str]) -> None:
        """Remove checkpoints; those that cannot be removed are tried again after the next save."""
        saver, saved = self.save_handler, self._saved
        if not isinstance(saver, BaseSaveHandler):
            return
        saved.to_remove = [name for name in filenames if name not in saved.foreign]
        with saver.removing() if isinstance(saver, DiskSaver) else nullcontext():
            while saved.to_remove:
                saver.remove(saved.to_remove[0])
                saved.to_remove = saved.to_remove[1:]

    @contextmanager
    def rehearse(self, folder: Path) -> Iterator[None]:
        """Save into a temporary folder inside ``folder``, then restore this handler (see ``ignite_core.debug``)."""
        before = dict(vars(self))
        self._use(DiskSaver(tempfile.mkdtemp(dir=folder), save_on_rank=self.save_on_rank))
        self.reset()
        try:
            yield
        finally:
            vars(self).update(before)

    @property
    def n_saved(self) -> int | None:
        """Number of the best that stay."""
        return self._retention.n_saved

    @property
    def keep_last(self) -> int | None:
        """Number of the newest that stay."""
        return self._retention.keep_last

    @property
    def greater_or_equal(self) -> bool:
        """Whether the latest of equal scores stays."""
        return self._retention.greater_or_equal

    @property
    def last_checkpoint(self) -> Path | str | None:
        """As in pytorch-ignite: of those that stay the one with the highest score, or without scores the highest step.

        A path if the saver has a folder, else the file name; None before the first save.
        """
        kept = self._saved.kept.best or self._saved.kept.last
        return self._path(kept[-1].filename) if kept else None

    @property
    def best_checkpoint(self) -> Path | str | None:
        """The one with the highest score; of equal ones the first, or with ``greater_or_equal`` the last.

        None without scores.
        """
        best = self._saved.kept.best
        if self.score_function is None or not best:
            return None
        equals = [item for item in best if item.priority == best[-1].priority]
        return self._path(equals[-1 if self.greater_or_equal else 0].filename)

    @property
    def newest_checkpoint(self) -> Path | str | None:
        """The one that was saved last."""
        return None if self._saved.newest is None else self._path(self._saved.newest)

    def _path(self, filename: str) -> Path | str:
        saver = self.save_handler
        return saver.dirname / self._saved.renamed.get(filename, filename) if isinstance(saver, DiskSaver) else filename

    @property
    def basename(self) -> str:
        """The common beginning of its file names: the prefix, and the name of the only object or ``checkpoint``."""
        return self._naming.basename(naming.object_name(self.to_save))

    def reset(self) -> None:
        """Forget what was saved; files stay. For an engine that is run again for something else, such as a fold."""
        self._saved = retention.SavedCheckpoints()

    def state_dict(self) -> OrderedDict[str, Any]:
        """Pairs of priority and file name: the best under ``_saved``, the newest under ``_last``."""
        return self._saved.kept.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load the state of :meth:`state_dict`, or of the handler of pytorch-ignite.

        Files with a name that this handler would not give are counted, but never removed.

        Raises:
            ValueError: If ``_saved`` is missing.
            CheckpointError: If it holds anything else than priorities and file names.
        """
        name = naming.object_name(self.to_save) if self.to_save else None
        loaded = retention.SavedCheckpoints.from_state(state_dict, lambda one: self._naming.fits(name, one, _NUMBER))
        self._saved.kept, self._saved.foreign = loaded.kept, loaded.foreign

    def adopt(self, items: Iterable[retention.Item]) -> None:
        """Take over checkpoints that exist already, as :func:`~ignite_core.handlers.resume` does.

        Args:
            items: In the order in which they were saved. Those that would not stay are removed after the next save.
        """
        items = list(items)
        kept, removed = self._retention.of(items)
        self._saved = retention.SavedCheckpoints(kept, items[-1].filename if items else None, removed)

    load_objects = staticmethod(load_objects)

    def reload_objects(
        self, to_load: Mapping[str, Any], load_kwargs: Mapping[str, Any] | None = None, **filename_components: Any
    ) -> None:
        """Load a file that this handler has saved, found by the parts of its name.

        Args:
            to_load: As in :meth:`load_objects`.
            load_kwargs: As ``kwargs`` of :meth:`load_objects`.
            filename_components: ``global_step``, ``score`` and ``name``, as far as the file name contains them.

        Raises:
            AttributeError: If the saver has no folder.
            CheckpointError: As in :meth:`load_objects`.
        """
        if not isinstance(self.save_handler, DiskSaver):
            raise AttributeError(
                "Checkpoint.reload_objects: needs a save_handler with a folder (a path or a DiskSaver), got "
                f"{type(self.save_handler).__name__}"
            )
        filename = self._naming.filename(**{"name": naming.object_name(self.to_save), **filename_components})
        self.load_objects(to_load, self.save_handler.dirname / filename, **(load_kwargs or {}))

    setup_filename_pattern = staticmethod(naming.filename_pattern)
    get_default_score_fn = staticmethod(scores.get_default_score_fn)
