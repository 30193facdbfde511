"""The handler that saves: when it is called, under which name, and what goes then.

One call, on all ranks: what is pending about the run is settled; ``save_on_rank`` decides whether this one is to stay,
and tells the others; every rank takes the states of its objects; one rank writes; only then older ones are removed.
After each of these steps the ranks tell each other whether it went well, and all go on or all raise.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Final

from torch.nn import Module

from ignite_core.distributed import utils as idist
from ignite_core.engine.engine import Engine
from ignite_core.engine.events import EventEnum, Events
from ignite_core.exceptions import RankFailed, few
from ignite_core.handlers._direction import higher_is_better
from ignite_core.handlers._global_step import clock_of
from ignite_core.handlers.checkpoint import naming as names
from ignite_core.handlers.checkpoint import retention, timed
from ignite_core.handlers.checkpoint.background import WriteFailed
from ignite_core.handlers.checkpoint.closing import Closing
from ignite_core.handlers.checkpoint.collecting import collect, is_bad
from ignite_core.handlers.checkpoint.keeping import Keeper, kept_state
from ignite_core.handlers.checkpoint.ranks import caught, saving_rank, share
from ignite_core.handlers.checkpoint.reading import read_into
from ignite_core.handlers.checkpoint.retention import Kept, Retention, as_number, plain
from ignite_core.handlers.checkpoint.savers import BaseSaveHandler, DiskSaver, as_function, as_saver
from ignite_core.handlers.checkpoint.sharded import is_sharded
from ignite_core.handlers.checkpoint.states import check_objects

__all__ = ["Checkpoint", "CheckpointEvents", "ModelCheckpoint"]

#: The name under which a handler saves itself.
SELF: Final = "checkpointer"

#: A run ends with one or several of these events; at each the same state would be saved.
ENDS: Final = frozenset({Events.TERMINATE, Events.COMPLETED, Events.INTERRUPT, Events.EXCEPTION_RAISED})


class CheckpointEvents(EventEnum):
    """What a :class:`Checkpoint` fires on the engine it is attached to. It need not be registered.

    - ``SAVED_CHECKPOINT``: a checkpoint was saved (handed to the saver, where that writes in the background).
    """

    SAVED_CHECKPOINT = "saved_checkpoint"

    @property
    def registers_itself(self) -> bool:
        return True


@dataclass(frozen=True)
class _Save:
    """What is about to be saved, as ``save_on_rank`` has decided it."""

    filename: str
    kept: Kept  #: what stays afterwards
    removed: list[str]
    metadata: dict[str, Any]
    key: tuple[Any, ...]  #: two saves of a run with the same key are the same


class Checkpoint(Keeper):
    """Saves objects when it is called, and keeps the best or the newest of what it has saved.

    Attach it to any event, on all ranks. It runs after the other handlers of the event (its priority is -20), so that
    what they change is saved with the rest.

    Args:
        to_save: Names and objects with ``state_dict``: models, optimizers, schedulers, the trainer itself; lists and
            dictionaries of such too. What wraps a model (DataParallel, DistributedDataParallel, torch.compile) leaves
            no trace. A single object is saved bare, so that ``model.load_state_dict(torch.load(path))`` works, several
            ones by name.
        save_handler: A folder, a :class:`~ignite_core.handlers.BaseSaveHandler` such as
            :class:`~ignite_core.handlers.DiskSaver`, or a function of (checkpoint, file name) or (checkpoint, file
            name, metadata).
        filename_prefix: What file names begin with.
        score_function: ``score_function(engine) -> number``; the checkpoints with the highest scores stay. None, NaN
            and infinities are never among the best. Without it those with the highest steps stay.
        score_name: What the score is of, in file names, where ``val/acc`` is ``val_acc``; without ``score_function``
            the score is ``engine.state.metrics[score_name]``, negated where the metric attached under this name is
            better when it is smaller.
        n_saved: How many of the best stay; None for all.
        global_step_transform: ``global_step_transform(engine, event) -> step``, for file names. By default the
            iterations of the engine, or, on an evaluator, of the trainer that runs it.
        filename_pattern: A pattern of file names, with ``{filename_prefix}``, ``{name}``, ``{global_step}``,
            ``{score_name}``, ``{score}`` and ``{ext}``; by default as below.
        include_self: Save what this handler has kept too, as ``"checkpointer"``.
        greater_or_equal: Of equal scores the latest stays; by default the earliest.
        save_on_rank: The rank that decides and writes, and the only one that looks at the file system; 0 where there is
            no such rank.
        keep_last: How many of the newest stay beside the best, whatever their score. File names have the step in them.
        require_empty: Of a folder given as ``save_handler``: there must be no ``.pt`` file in it.

    Attributes:
        SAVED_CHECKPOINT: The event that is fired after each save.
        ext: The extension of file names, ``"pt"``.

    A file is called ``{filename_prefix}_{name}_{global_step}_{score_name}={score}.pt``, where the name is that of the
    only object or ``checkpoint``, a score has four decimals unless it is whole, and what is not given is left out:

    ================== ============== ========================= =================================
    ``score_function`` ``score_name`` ``global_step_transform`` after the name
    ================== ============== ========================= =================================
    no                 no             no                        ``_{iteration}``
    no                 no             yes                       ``_{global_step}``
    yes                no             no                        ``_{score}``
    yes                yes            no                        ``_{score_name}={score}``
    yes                no             yes                       ``_{global_step}_{score}``
    yes                yes            yes                       ``_{global_step}_{score_name}={score}``
    ================== ============== ========================= =================================

    Raises:
        TypeError: If an argument is of a wrong type.
        ValueError: If arguments contradict each other, file names would not be names of files, or the folder is not
            empty.

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
        super().__init__(
            to_save,
            Retention(n_saved, keep_last, greater_or_equal),
            names.Naming(filename_prefix, score_function is not None, score_name, filename_pattern),
        )
        self.filename_prefix = filename_prefix
        self.score_function = score_function
        self.score_name = score_name
        self.global_step_transform = global_step_transform
        self.filename_pattern = filename_pattern
        self.include_self = include_self
        self.save_on_rank = save_on_rank
        self.ext = names.EXTENSION
        self._last_key: tuple[Any, ...] = ()
        self._last_event: Any = None
        self._last_run: Any = None  # where the engine keeps the times of the run: another object in each
        self.save_handler = as_saver(save_handler, require_empty, save_on_rank)
        if isinstance(self.save_handler, DiskSaver):
            self._naming.check()
        self._hand_over = as_function(self.save_handler)
        self._closing = Closing(self.save_handler, save_on_rank)

    # ------------------------------------------------------------------------------------------------ when it saves

    def attach(
        self,
        engine: Engine,
        event: Any = None,
        *,
        every: int | None = None,
        every_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Save at an event, every so many iterations, every so many seconds, or all of these.

        Args:
            engine: The trainer, or an evaluator that it runs.
            event: An event, or several joined by ``|``.
            every: Iterations from one save to the next.
            every_s: Seconds from one save to the next. Looked at after each iteration; on several ranks the clock of
                ``save_on_rank`` decides for all, a few iterations later (see :class:`~ignite_core.handlers.Vote`).
            clock: Gives the time in seconds.

        Raises:
            ValueError: If neither is given, or a period is not positive.

        Example:
            >>> from torch import nn
            >>> trainer = Engine(lambda engine, batch: None)
            >>> checkpoint = Checkpoint({"model": nn.Linear(1, 1)}, lambda state, filename: print(filename))
            >>> checkpoint.attach(trainer, Events.COMPLETED, every=4)
            >>> state = trainer.run(range(10))
            model_4.pt
            model_8.pt
            model_10.pt
        """
        if event is None and every is None and every_s is None:
            raise ValueError("Checkpoint.attach: say when to save: event, every (iterations) or every_s (seconds)")
        timer = None if every_s is None else timed.Timer(self, every_s, clock, self.save_on_rank)
        if every is not None:
            engine.add_event_handler(Events.ITERATION_COMPLETED(every=every), self)
        if event is not None:
            engine.add_event_handler(event, self)
        if timer is not None:
            engine.add_event_handler(Events.ITERATION_COMPLETED, timer)

    def __call__(self, engine: Engine, *extras: Any, **named: Any) -> None:
        """Save, if this one is to stay. On several ranks all make the call.

        Raises:
            CheckpointError: If it could not be saved; older ones are as they were. On several ranks all raise it, with
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
            # One rank has raised, the others are elsewhere: there is no common state, and the error at hand matters.
            engine.logger.warning("Checkpoint: nothing was saved after the error: %s", error)
        engine.last_event_name = event

    def _save(self, engine: Engine, event: Any) -> None:
        bad = is_bad(engine)  # on all ranks, unless what found it acts on this rank alone
        self._closing.watch(engine)
        save = self._agree(engine, event, bad)
        if save is None:
            return
        checkpoint = self._collect(save)
        self._write(checkpoint, save)
        self._newest, self._last_key, self._last_event = save.filename, save.key, event
        self._last_run = clock_of(engine, event).state.times
        engine.fire_event(CheckpointEvents.SAVED_CHECKPOINT)

    def _agree(self, engine: Engine, event: Any, bad: bool) -> _Save | None:
        """What is to be saved, the same on all ranks; None if it is bad, would not stay, or is saved already."""
        error, asked = None, None
        try:
            asked = None if bad else self._decide(engine, event)
        except Exception as failure:
            error = caught(failure)
        mine = (self.filename_prefix, list(self.to_save))
        told = share("Checkpoint: the score or the step could not be found", error, (mine, bad, asked))
        if any(what != mine for what, _, _ in told):
            share("Checkpoint: all ranks must save the same at one event", ValueError(f"it saves {mine}"), None)
        save: _Save | None = told[saving_rank(self.save_on_rank)][2]
        return None if any(bad for _, bad, _ in told) else save

    def _decide(self, engine: Engine, event: Any) -> _Save | None:
        """What this rank would save; None if it would not stay, or is saved already."""
        clock = clock_of(engine, event)
        step = clock.state.iteration
        global_step = None if self.global_step_transform is None else self.global_step_transform(engine, event)
        score = None if self.score_function is None else as_number(self.score_function(engine), "score_function")
        if global_step is None and (self.score_function is None or self.keep_last is not None):
            global_step = step
        filename = self._naming.filename(names.object_name(self.to_save), global_step, score)
        priority = plain(as_number(global_step, "global_step_transform") if self.score_function is None else score)
        key = (filename, step, repr(priority))
        is_saved = filename == self._newest and key == self._last_key and clock.state.times is self._last_run
        if is_saved and (event in ENDS or event == self._last_event):
            return None
        if not self._retention.wants(self._kept, priority):
            return None
        kept, removed = self._retention.after(self._kept, retention.Item(priority, filename))
        metadata: dict[str, Any] = {
            "basename": self.basename,
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
        """Its name where ranks compare what they have attached."""
        return f"Checkpoint {self.filename_prefix!r}" if self.filename_prefix else "Checkpoint"

    def why_not_alone(self) -> str | None:
        """Why one rank alone cannot save, if there is a reason."""
        if self._on_every_rank:
            return f"{type(self.save_handler).__name__} saves on every rank"
        parts = [value for one in self.to_save.values() for value in (one if isinstance(one, list | tuple) else [one])]
        modules = (part for part in parts if isinstance(part, Module))
        if any(is_sharded(list(module.parameters())) for module in modules):
            return "it saves a model that is sharded over the ranks"
        return None

    # ------------------------------------------------------------------------------------------------ what it saves

    def _collect(self, save: _Save) -> Any:
        """What the saver is to get; None on ranks that write nothing."""
        rank = saving_rank(self.save_on_rank)
        states = collect(self.to_save, f"Checkpoint: {save.filename} was not saved", rank, not self._on_every_rank)
        if not self._writes_here:
            return None
        if self.include_self:
            return {**states, SELF: kept_state(save.kept)}
        return next(iter(states.values())) if len(states) == 1 else states

    @property
    def _on_every_rank(self) -> bool:
        return bool(getattr(self.save_handler, "saves_on_every_rank", False))

    @property
    def _writes_here(self) -> bool:
        return self._on_every_rank or idist.get_rank() == saving_rank(self.save_on_rank)

    def _write(self, checkpoint: Any, save: _Save) -> None:
        """Hand it to the saver, take over what stays then, and remove what does not."""
        doing, error = "was not saved", None
        try:
            if self._writes_here:
                self._hand_over(checkpoint, save.filename, save.metadata)
                doing = "was saved, but not all older ones could be removed"
                self._kept = save.kept
                self._remove([name for name in (*self._to_remove, *save.removed) if name not in save.kept.filenames])
        except Exception as failure:
            if isinstance(failure, WriteFailed):  # an earlier save
                self._kept = self._kept.without(failure.filename)
            error = caught(failure)
        told = share(f"Checkpoint: {save.filename} {doing}", error, getattr(self.save_handler, "_written", None))
        self._kept = save.kept
        written = told[saving_rank(self.save_on_rank)]
        if written not in (None, save.filename):
            kept = {name: file for name, file in self._files.items() if name in save.kept.filenames}
            self._files = {**kept, save.filename: written}

    def _remove(self, filenames: list[str]) -> None:
        """Remove what stays no longer; what cannot be removed is tried again after the next save."""
        if not isinstance(self.save_handler, BaseSaveHandler):
            return
        self._to_remove = [name for name in filenames if name not in self._foreign]
        with self.save_handler.removing() if isinstance(self.save_handler, DiskSaver) else nullcontext():
            while self._to_remove:
                self.save_handler.remove(self._to_remove[0])
                self._to_remove = self._to_remove[1:]

    @contextmanager
    def rehearse(self, folder: Path) -> Iterator[None]:
        """Inside, it saves into a folder of its own there; afterwards it is as before (see ``ignite_core.debug``)."""
        before = dict(vars(self))
        self.save_handler = DiskSaver(tempfile.mkdtemp(dir=folder), save_on_rank=self.save_on_rank)
        self._hand_over = as_function(self.save_handler)
        self._closing = Closing(self.save_handler, self.save_on_rank)
        self.reset()
        try:
            yield
        finally:
            vars(self).update(before)

    # --------------------------------------------------------------------------------------------------- loading

    @staticmethod
    def load_objects(
        to_load: Mapping[str, Any], checkpoint: str | PathLike[str] | Mapping[str, Any], **kwargs: Any
    ) -> None:
        """Load what was saved into objects: into all of them, or, if anything is wrong, into none.

        Args:
            to_load: Names and objects with ``load_state_dict``, as given to ``to_save`` or a part of it.
            checkpoint: A path, read as :func:`torch.load` does with ``weights_only=True`` after it was verified; or
                states by name; or the bare state of a single object.
            kwargs: Handed to ``load_state_dict`` of modules, such as ``strict=False``.

        Raises:
            TypeError: If an argument is of a wrong type.
            CheckpointError: If the file is damaged or not safe, or does not fit the objects.

        Example:
            >>> from torch import nn
            >>> saved, model = nn.Linear(2, 1), nn.Linear(2, 1)
            >>> Checkpoint.load_objects({"model": model}, {"model": saved.state_dict()})
            >>> bool((model.weight == saved.weight).all())
            True
        """
        check_objects(to_load, "load_state_dict", "Checkpoint.load_objects")
        read_into(to_load, checkpoint, **kwargs)

    def reload_objects(
        self, to_load: Mapping[str, Any], load_kwargs: Mapping[str, Any] | None = None, **filename_components: Any
    ) -> None:
        """Load one of the files that this handler has saved, found by what is in its name.

        Args:
            to_load: As of :meth:`load_objects`.
            load_kwargs: As ``kwargs`` of :meth:`load_objects`.
            filename_components: ``global_step``, ``score`` and ``name``, as far as the file name has them.

        Raises:
            AttributeError: If the saver has no folder.
            CheckpointError: As of :meth:`load_objects`.
        """
        if not isinstance(self.save_handler, DiskSaver):
            raise AttributeError(
                "Checkpoint.reload_objects: needs a save_handler with a folder (a path or a DiskSaver), got "
                f"{type(self.save_handler).__name__}"
            )
        parts = {"name": names.object_name(self.to_save), **filename_components}
        filename = self._naming.filename(**parts)
        self.load_objects(to_load, self.save_handler.dirname / filename, **(load_kwargs or {}))

    # --------------------------------------------------------------------------------------------------- helpers

    setup_filename_pattern = staticmethod(names.filename_pattern)

    @staticmethod
    def get_default_score_fn(metric_name: str, score_sign: float | None = None) -> Callable[[Any], Any]:
        """A score function that reads a metric of the engine.

        Args:
            metric_name: A key of ``engine.state.metrics``.
            score_sign: 1.0, or -1.0 for what is better when it is smaller. By default ``higher_is_better`` of the
                metric that is attached under the name decides; 1.0 where there is none, as in pytorch-ignite.

        Raises:
            ValueError: If the sign is another.

        Example:
            >>> engine = Engine(lambda engine, batch: None)
            >>> engine.state.metrics["loss"] = 0.25
            >>> Checkpoint.get_default_score_fn("loss", -1.0)(engine)
            -0.25
        """
        if score_sign not in (None, 1.0, -1.0):
            raise ValueError(f"Checkpoint.get_default_score_fn: score_sign must be 1.0 or -1.0, got {score_sign!r}")

        def score(engine: Engine) -> Any:
            sign = score_sign or (-1.0 if higher_is_better(engine, metric_name) is False else 1.0)
            return sign * engine.state.metrics[metric_name]

        return score


class ModelCheckpoint(Checkpoint):
    """A :class:`Checkpoint` into a folder that is told the objects when it is attached.

    Args:
        dirname: The folder, as of :class:`~ignite_core.handlers.DiskSaver`, as are ``atomic``, ``require_empty``,
            ``create_dir`` and ``kwargs``.
        filename_prefix: As of :class:`Checkpoint`, as are all others.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from torch import nn
        >>> trainer, model = Engine(lambda engine, batch: None), nn.Linear(1, 1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     checkpoint = ModelCheckpoint(folder, "run", n_saved=None)
        ...     handle = trainer.add_event_handler(Events.EPOCH_COMPLETED, checkpoint, {"model": model})
        ...     state = trainer.run(range(10), max_epochs=2)
        ...     print(sorted(path.name for path in Path(folder).glob("*.pt")))
        ['run_model_10.pt', 'run_model_20.pt']
    """

    def __init__(
        self,
        dirname: str | PathLike[str],
        filename_prefix: str = "",
        score_function: Callable[[Any], Any] | None = None,
        score_name: str | None = None,
        n_saved: int | None = 1,
        atomic: bool = True,
        require_empty: bool = True,
        create_dir: bool = True,
        global_step_transform: Callable[[Any, Any], Any] | None = None,
        filename_pattern: str | None = None,
        include_self: bool = False,
        greater_or_equal: bool = False,
        save_on_rank: int = 0,
        *,
        keep_last: int | None = None,
        **kwargs: Any,
    ) -> None:
        saver = DiskSaver(dirname, atomic, create_dir, require_empty, save_on_rank, **kwargs)
        super().__init__(
            {},
            saver,
            filename_prefix,
            score_function,
            score_name,
            n_saved,
            global_step_transform,
            filename_pattern,
            include_self,
            greater_or_equal,
            save_on_rank,
            keep_last=keep_last,
        )

    def __call__(self, engine: Engine, *extras: Any, **named: Any) -> None:
        """Save; the objects are the last argument: ``add_event_handler(event, checkpoint, {"model": model})``."""
        objects = named.get("to_save", extras[-1] if extras else None)
        if objects is not None:
            check_objects(objects, "state_dict", "ModelCheckpoint")
            self.to_save = objects
        super().__call__(engine)
