"""What makes a run repeat bit for bit, whole or cut and resumed: its seed, and the state that each process saves.

A seeded run has three kinds of random numbers, which do not depend on each other:

- those of the step and the handlers: all generators are seeded at the start of an epoch, equally on all ranks; their
  states are saved, and restored if the run is resumed inside an epoch;
- those of the items of the data, which follow from the seed, the pass over the data and the place in it;
- those of the sampler, which follow from the seed and the pass (for both: :mod:`ignite_core.engine.data.passes`).
"""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.utils.data import IterableDataset

from ignite_core.engine.data.epochs import announce_epoch
from ignite_core.engine.data.position import Passes, PlainPasses, Position, has_state, length_of, share_of
from ignite_core.engine.state import State
from ignite_core.engine.state_dict import CUTS, ResumeInfo
from ignite_core.rng import manual_seed, mix, rng_state, set_rng_state

__all__ = ["ResumeState", "check_seed", "drawn_seed"]


class ResumeState:
    """What a run is resumed from beside its counters: random states, the position in the data, the state of the step.

    The run is seeded if ``state.seed`` is set. Without a seed, only data that saves its own position is resumed.
    """

    def __init__(self) -> None:
        self.passes: Passes | None = None  #: over the data of the run that began last
        self.data_length: int | None = None  #: batches of a pass over the data, if known
        self._global_batch: int | None = None
        self._num_workers: int | None = None
        self._held: Mapping[str, Any] | None = None  # random states to be restored
        self._loaded: ResumeInfo | None = None  # by load; None once a run has begun

    # ------------------------------------------------------------------------------------------------- save and load

    def state_dict(self, state: State, position: Position, step: Any, is_cut: bool = False) -> dict[str, Any]:
        """The state to save, with the part of this process in ``by_rank``; empty if there is none."""
        if self._loaded is not None:
            return self._loaded.saved(state, _own_part(self._loaded))
        data_pass = position.progress_in_data(state, is_cut)
        part: dict[str, Any] = {}
        if state.seed is not None:
            part["seed"] = state.seed
            part["rng"] = rng_state() if self._held is None else self._held
        if data_pass[1] and _has_state(self.passes):
            part["data"] = self.passes.state_dict()  # type: ignore[union-attr]
        length = None if self.passes is None else length_of(self.passes.data)  # batch sizes may have changed
        length = self.data_length if length is None else length
        info = ResumeInfo(state.seed, data_pass, length, self._global_batch, self._num_workers)
        if not part:  # with epochs as long as the data, the iteration tells the place
            return {} if self.passes is None or length == state.epoch_length else info.saved(state, {})
        of_step = step.step_state() if hasattr(step, "step_state") else None
        if of_step:
            part["step"] = of_step
        rank, world_size = _place_of_process()
        return info.saved(state, {"rank": rank, "world_size": world_size, **part})

    def load(self, state: State, info: ResumeInfo | None) -> None:
        """Set what the next run is resumed from; None: nothing."""
        self._loaded = info
        if info is not None and info.seed is not None:
            state.seed = (_own(info) or {}).get("seed", info.seed)

    @property
    def is_waiting(self) -> bool:
        """Whether a state was loaded, and no run has begun since."""
        return self._loaded is not None

    # --------------------------------------------------------------------------------------------------------- the run

    def begin(self, state: State, data: Iterable[Any] | None, position: Position, step: Any) -> None:
        """Set ``position``, which is at its place in the epoch, to where the run begins; load the state of the step.

        Raises:
            ValueError: If the run cannot be resumed with this data.
        """
        self._held = None
        before = self.data_length if position.passes else None
        self.go_over(data, state.seed)
        if self._loaded is not None:
            by_hand = self._loaded.data_pass is None and state.seed is not None
            before = None if by_hand else self._loaded.data_length
            self._resume(state, data, position, step, self._loaded, before)
            self._loaded = None
        elif before is not None:
            _warn_of_length(state, before, self.data_length, 0, stacklevel=6)
        if self.data_length is None:
            self.data_length = before
        position.iterate(self.passes)
        if data is not None:
            announce_epoch(data, max(state.epoch + 1, position.progress_in_data(state)[0]))

    def _resume(
        self, state: State, data: Any, position: Position, step: Any, loaded: ResumeInfo, before: int | None
    ) -> None:
        place, is_seeded, has_state = position.place, state.seed is not None, _has_state(self.passes)
        position.resumed = state.iteration > 0 or position.again is not None
        is_cut = position.left in CUTS
        has_place = is_seeded or data is None or has_state
        if place and not (has_place or is_cut or place == state.epoch_length):
            _warn_of_cut("an epoch", place, state.epoch_length, "iterations", "the epoch is run again from its start")
            _warn_of_length(state, before, self.data_length, 0)
            position.place = 0
            return
        number, done = loaded.data_pass or self._pass_by_numbers(state, 0 if is_cut else place)
        is_over = 0 < done == before
        is_inside = done > 0 and not is_over
        if is_inside and not has_place:
            _warn_of_cut("a pass over the data", done, before, "batches", "another pass begins")
            done = 0
        sources = _sources(loaded)
        if is_inside and has_place:
            _check_same_batches(loaded, self._global_batch, self._num_workers, data, has_state)
        _warn_of_length(state, before, self.data_length, done if is_inside and has_place else 0)
        is_elsewhere = loaded.world_size not in (None, _place_of_process()[1])
        if has_state and "data" in sources[0] and not (is_over and is_elsewhere):
            self.passes.load_state_dict(sources[0]["data"])  # type: ignore[union-attr]
            is_over = False  # the data saved this itself
        if place and is_seeded:
            self._held = sources[0].get("rng")
        of_step = [source["step"] for source in sources if "step" in source]
        if place and of_step:
            step.load_step_state(of_step)
        position.resume_pass(number, done, is_over)

    def _pass_by_numbers(self, state: State, place: int) -> tuple[int, int]:
        """The pass, and how many of its batches are done, if only iterations were saved."""
        length, every = self.data_length, state.epoch_length
        if state.seed is None:
            return state.epoch + 1, 0
        if not length or not every or state.iteration != state.epoch * every + place:
            return state.epoch + 1, place
        passes, done = divmod(state.iteration, length)
        return max(passes, passes * length // every) + 1, done

    def go_over(self, data: Iterable[Any] | None, seed: int | None) -> Passes | None:
        """Take the batches of the run from ``data``; returns the passes over it."""
        self.passes = _passes_over(data, seed)
        self.data_length = None if data is None else length_of(data)
        self._global_batch = None if seed is None else _global_batch(data)
        self._num_workers = None if seed is None else _num_workers(data)
        return self.passes

    def begin_epoch(self, state: State, number: int) -> None:
        """Seed all generators; 0 is before the first epoch."""
        if state.seed is not None:
            manual_seed(mix(state.seed, "epoch", number))

    def pause(self, state: State) -> None:
        """Save the states of all generators until the run continues."""
        if state.seed is not None:
            self._held = rng_state()

    def go_on(self) -> None:
        """Restore the states of all generators that were loaded, or saved at a pause."""
        if self._held is not None:
            set_rng_state(self._held)
            self._held = None


def drawn_seed() -> int:
    """A seed from torch's generator, the same on all ranks: that of rank 0."""
    from ignite_core.distributed import utils as idist

    seed = int(torch.randint(0, 2**31, (1,)).item())
    return seed if idist.get_world_size() == 1 else int(idist.broadcast(seed))


def check_seed(seed: object, seed_of_run: int | None) -> None:
    """Check the type and size of a seed, and that it is the seed of the run that is resumed."""
    if seed is None:
        return
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral):
        raise TypeError(f"Engine.run: seed must be an integer, got {seed!r}")
    if int(seed).bit_length() > 64:
        raise ValueError(f"Engine.run: seed must fit into 64 bits, got one of {int(seed).bit_length()}")
    if seed_of_run not in (None, seed):
        raise ValueError(
            f"Engine.run: seed={seed} differs from the seed {seed_of_run} of the run that goes on; leave it out, or "
            "set engine.state.max_epochs = None to start from zero"
        )


# ------------------------------------------------------------------------------------------------------------- the data


def _passes_over(data: Iterable[Any] | None, seed: int | None) -> Passes | None:
    """The passes of a run over its data."""
    if data is None:
        return None
    if seed is None and not has_state(data):
        return PlainPasses(data)
    from ignite_core.engine.data import passes  # which imports samplers, and all of the distributed package

    if seed is None:
        return passes.StatefulPasses(data, None)
    return passes.seeded_passes(data, seed, *_place_of_process())


def _has_state(passes: Passes | None) -> bool:
    """Whether the data saves its own position."""
    return hasattr(passes, "load_state_dict")


def _global_batch(data: Any) -> int | None:
    """Samples in a batch of all ranks together; None if unknown."""
    size = getattr(data, "batch_size", None)
    sampler = getattr(data, "batch_sampler", None)
    if size is None and sampler is not None:
        size = getattr(sampler, "batch_size", None)
    return size * _shards(data) if isinstance(size, int) else None


def _shards(data: Any) -> int:
    """The number of shards of the data."""
    return share_of(data, *_place_of_process())[1]


def _num_workers(data: Any) -> int | None:
    """The number of workers that share a stream, at least 1; None for other data."""
    if not isinstance(getattr(data, "dataset", None), IterableDataset):
        return None
    workers = getattr(data, "num_workers", None)
    return None if workers is None else max(1, workers)


def _check_same_batches(
    loaded: ResumeInfo, batch: int | None, num_workers: int | None, data: object, has_state: bool
) -> None:
    """Raise ValueError if a pass would be resumed with other batches, also on another number of ranks."""
    before, now = loaded.world_size, _place_of_process()[1]
    has_places = hasattr(data, "dataset") and not isinstance(data.dataset, IterableDataset) and not has_state
    if before not in (None, now) and not (has_places and batch and loaded.global_batch):
        raise ValueError(
            f"Engine.run: the run was saved inside a pass over the data by {before} processes, and goes on with {now}: "
            "the data must be a DataLoader with a map-style dataset, a batch_size and no state of its own, "
            f"got a {type(data).__name__}"
        )
    wanted = loaded.global_batch
    if wanted is not None and batch is not None and batch != wanted:
        shards = _shards(data)
        mend = (
            f"its DataLoader must have batch_size={wanted // shards}"
            if wanted % shards == 0
            else "they cannot share it"
        )
        raise ValueError(
            f"Engine.run: the run was saved inside a pass over the data, in batches of {wanted} samples of {before} "
            f"processes together, and goes on with {now} processes and batches of {batch}: {mend}"
        )
    if None not in (loaded.num_workers, num_workers) and loaded.num_workers != num_workers:
        raise ValueError(
            f"Engine.run: the run was saved inside a pass over a stream that {loaded.num_workers} worker(s) shared, "
            f"and goes on with {num_workers}: samples would come twice or not at all; its DataLoader must have "
            f"num_workers={loaded.num_workers}"
        )


def _warn_of_length(state: State, before: int | None, now: int | None, done: int, stacklevel: int = 7) -> None:
    """Warn about data of another length, after ``done`` batches of a pass, or 0 between two passes."""
    if before is None or now is None or before == now or done > now:  # the last one is an error when the pass begins
        return
    said = []
    if state.epoch_length == before:
        said.append(
            f"its epochs keep {before} iterations (for epochs as long as the data, set engine.state.epoch_length = "
            f"{now} before the run)"
        )
    if done:
        said.append(f"samples of the pass that was cut after {done} batches may come twice or not at all")
    if said:
        warnings.warn(
            f"Engine.run: the run that goes on had data of {before} batches, and gets data of {now}: "
            + ", and ".join(said),
            stacklevel=stacklevel,
        )


def _warn_of_cut(where: str, done: int, length: int | None, unit: str, what: str) -> None:
    warnings.warn(
        f"Engine.run: the run goes on inside {where}, after {done} of its {length or 'yet unknown number of'} {unit}, "
        f"but without a seed it is not known which batches these were: {what}. Save at the end of {where}, or give the "
        "run a seed: run(..., seed=0).",
        stacklevel=7,
    )


# --------------------------------------------------------------------------------------------- the part of each process


def _place_of_process() -> tuple[int, int]:
    """Rank and world size."""
    from ignite_core.distributed import utils as idist  # which takes as long to import as the engine

    return idist.get_rank(), idist.get_world_size()


def _sources(loaded: ResumeInfo) -> list[Mapping[str, Any]]:
    """The parts from which this process is resumed: its own, or if the number of processes has changed, all.

    All processes then take the random states of the first part.
    """
    own = _own(loaded)
    if own is not None or not loaded.parts:
        return [own or {}]
    ranks = [part["rank"] for part in loaded.parts]
    if ranks != list(range(loaded.world_size or 0)):
        rank, world_size = _place_of_process()
        warnings.warn(
            f"Engine.run: what rank {rank} of {world_size} had saved is missing, there is only that of ranks {ranks} "
            f"of {loaded.world_size}: the run will differ from the one that was cut. Save with a Checkpoint, "
            "which collects the parts of all ranks.",
            stacklevel=7,
        )
    return list(loaded.parts)


def _own(loaded: ResumeInfo) -> Mapping[str, Any] | None:
    place = _place_of_process()
    return next((part for part in loaded.parts if (part["rank"], part["world_size"]) == place), None)


def _own_part(loaded: ResumeInfo) -> Mapping[str, Any]:
    """The part that this process saves before a run has begun from a loaded state."""
    rank, world_size = _place_of_process()
    rng = {key: part[key] for part in loaded.parts[:1] for key in ("rng",) if key in part}
    return _own(loaded) or {"rank": rank, "world_size": world_size, **rng}
