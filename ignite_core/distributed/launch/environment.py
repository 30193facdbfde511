"""Which process of how many this is, as the environment tells it. Pure functions of a mapping: nothing is started here.

Three kinds of launcher are understood: torchrun and whoever else sets its variables, SLURM's ``srun``, and none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Launch", "Place", "expand_nodelist", "read_launch"]


@dataclass(frozen=True, slots=True)
class Launch:
    """What a launcher told one of its processes.

    Attributes:
        rank: Number of the process, from 0.
        world_size: Number of processes.
        local_rank: Its number among those of its node, from 0; None if that is to be counted.
        master_addr: Host of the store through which the processes find each other; None where one is alone.
        master_port: Port of that store; None where one is alone.
        node: What the launcher calls the node; None if it does not tell.
        source: Who told it, for messages.
        launcher_runs_store: The launcher runs the store; else rank 0 does.
        may_restart: The launcher may end the processes and start them anew, with the same store.
    """

    rank: int
    world_size: int
    local_rank: int | None
    master_addr: str | None = None
    master_port: int | None = None
    node: str | None = None
    source: str = "the environment"
    launcher_runs_store: bool = False
    may_restart: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process stands among all, and on its node."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    nproc_per_node: int = 1
    nnodes: int = 1
    node_rank: int = 0


#: The variables of torchrun that say which process this is, and those of SLURM that say the same.
_PLACE = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_NTASKS", "LOCAL_RANK": "SLURM_LOCALID"}
_MEETING = ("MASTER_ADDR", "MASTER_PORT")

#: Those that name the nodes of a step of SLURM, or else of its job.
_NODELISTS = ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST")


def read_launch(environment: Mapping[str, str], backend: str = "gloo") -> Launch | None:
    """Find out how this process was launched.

    Args:
        environment: Such as ``os.environ``.
        backend: For messages.

    Returns:
        None if nobody launched it as one of several: no variable of torchrun is set, nor is it a task of ``srun``.

    Raises:
        ValueError: If variables are set in part, are no numbers, or contradict each other. The message names
            them, their values, the rank as far as it is known, and the backend.

    Example:
        >>> read_launch({}) is None
        True
        >>> read_launch({"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "29500"})
        Launch(rank=1, world_size=2, local_rank=1, master_addr='a', master_port=29500, ...)
        >>> read_launch({"RANK": "1", "WORLD_SIZE": "2"})
        Traceback (most recent call last):
        ValueError: idist.initialize (backend gloo, rank 1): set are RANK='1', WORLD_SIZE='2', but not LOCAL_RANK, ...
    """
    known = {name: value for name, value in environment.items() if value}
    reader = _Reader(known, backend)
    is_task = "SLURM_PROCID" in known and not _is_small_batch(known)
    if is_task and "TORCHELASTIC_RUN_ID" not in known and not _is_launched_within_slurm(known, reader):
        return _read_slurm(known, reader)
    names = [*_PLACE, *_MEETING]
    if not any(name in known for name in names):
        return None
    wanted = list(_PLACE) if known.get("WORLD_SIZE") == "1" else names
    missing = [name for name in wanted if name not in known]
    if missing:
        there = ", ".join(f"{name}={known[name]!r}" for name in names if name in known)
        raise reader.error(f"set are {there}, but not {', '.join(missing)}; set all of them, as torchrun does, or none")
    rank, world_size, local_rank = (reader.number(name) for name in _PLACE)
    launch = Launch(
        rank,
        world_size,
        local_rank,
        *reader.meeting(),
        node=known.get("GROUP_RANK"),
        source="torchrun" if "TORCHELASTIC_RUN_ID" in known else "the environment",
        launcher_runs_store=known.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
        may_restart="TORCHELASTIC_RUN_ID" in known,
    )
    _check(launch, reader, "RANK", "WORLD_SIZE", "LOCAL_RANK")
    return launch


def expand_nodelist(nodelist: str) -> list[str]:
    """The hosts of a SLURM node list, in its order.

    Args:
        nodelist: Such as the value of ``SLURM_JOB_NODELIST``.

    Raises:
        ValueError: If it is none.

    Example:
        >>> expand_nodelist("login,gpu[08-10,12]-a")
        ['login', 'gpu08-a', 'gpu09-a', 'gpu10-a', 'gpu12-a']
        >>> expand_nodelist("rack[1-2]n[0,3]")
        ['rack1n0', 'rack1n3', 'rack2n0', 'rack2n3']
    """
    entries = re.findall(r"(?:[^\[\],\s]|\[[\d,-]+\])+", nodelist)
    if not entries or ",".join(entries) != nodelist:
        raise ValueError(f"not a SLURM node list: {nodelist!r}")
    return [host for entry in entries for host in _expand(entry)]


def _expand(entry: str) -> list[str]:
    """The hosts of one entry: its first bracket is expanded, then the rest."""
    before, bracket, after = entry.partition("[")
    if not bracket:
        return [entry]
    ranges, _, after = after.partition("]")
    numbers: list[str] = []
    for part in ranges.split(","):
        bounds = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if bounds is None or int(bounds[2] or bounds[1]) < int(bounds[1]):
            raise ValueError(f"not a SLURM node list: {part!r} in {entry!r}")
        first, last = int(bounds[1]), int(bounds[2] or bounds[1])
        numbers += [str(number).zfill(len(bounds[1])) for number in range(first, last + 1)]
    return [before + number + rest for number in numbers for rest in _expand(after)]


def _read_slurm(known: Mapping[str, str], reader: _Reader) -> Launch:
    """A task of ``srun``. Variables of torchrun may be set too, by site hooks or scripts, but must say the same."""
    missing = [name for name in [*_PLACE.values(), "SLURM_JOB_ID"] if name not in known]
    nodes = next((name for name in _NODELISTS if name in known), None)
    if nodes is None:
        missing.append("SLURM_JOB_NODELIST")
    if missing:
        raise reader.error(
            f"set is SLURM_PROCID={known['SLURM_PROCID']!r}, but not {', '.join(missing)}; "
            "start the script with srun, or unset SLURM_PROCID to run it alone"
        )
    for name, theirs in _PLACE.items():
        if name in known and reader.number(name) != reader.number(theirs):
            raise reader.error(
                f"{name}={known[name]!r} contradicts {theirs}={known[theirs]!r}; unset {name}, or make them the same"
            )
    world_size = reader.number("SLURM_NTASKS")
    step = known.get("SLURM_STEP_ID", known.get("SLURM_STEPID"))
    if world_size > 1 and step is None:
        raise reader.error(
            f"SLURM_NTASKS='{world_size}', but SLURM_STEP_ID is not set: this process was not started by srun and "
            "would wait for the others forever; start it with srun, or unset SLURM_PROCID to run it alone"
        )
    tasks = reader.number("SLURM_STEP_NUM_TASKS", default=world_size)
    if tasks != world_size:  # such as in the shell that salloc opens
        raise reader.error(
            f"SLURM_NTASKS='{world_size}' contradicts SLURM_STEP_NUM_TASKS='{tasks}', the number of processes that "
            "srun has started; start the script with srun, or unset SLURM_PROCID to run it alone"
        )
    assert nodes is not None
    try:
        host = expand_nodelist(known[nodes])[0]
    except ValueError as error:
        raise reader.error(f"{nodes}={known[nodes]!r} cannot be read") from error
    job = re.match(r"\d+", known["SLURM_JOB_ID"])
    if job is None:
        raise reader.error(f"SLURM_JOB_ID={known['SLURM_JOB_ID']!r} is no number")
    # the same port for all tasks of a step, another one for the next step of the job; below the ephemeral ones
    port = 20_000 + (int(job[0]) + 97 * reader.number("SLURM_STEP_ID", "SLURM_STEPID", default=0)) % 10_000
    told_host, told_port = reader.meeting()
    launch = Launch(
        reader.number("SLURM_PROCID"),
        world_size,
        reader.number("SLURM_LOCALID"),
        told_host or host,
        told_port or port,
        node=known.get("SLURM_NODEID"),
        source="SLURM",
    )
    _check(launch, reader, "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")
    return launch


def _check(launch: Launch, reader: _Reader, rank: str, world_size: str, local_rank: str) -> None:
    """What holds for any process, in the variables that told it."""
    if launch.world_size < 1:
        raise reader.error(f"{world_size}='0' must be at least 1")
    if launch.rank >= launch.world_size:
        raise reader.error(f"{rank}='{launch.rank}' must be below {world_size}='{launch.world_size}'")
    if launch.local_rank is not None and launch.local_rank > launch.rank:
        raise reader.error(f"{local_rank}='{launch.local_rank}' must not be above {rank}='{launch.rank}'")


def _is_small_batch(known: Mapping[str, str]) -> bool:
    """Whether this is the batch script of a job on one node that has asked for no number of tasks."""
    is_told = any(name in known for name in ("SLURM_NTASKS", "SLURM_STEP_ID", "SLURM_STEPID"))
    return not is_told and known.get("SLURM_JOB_NUM_NODES") == "1"


def _is_launched_within_slurm(known: Mapping[str, str], reader: _Reader) -> bool:
    """Whether another launcher runs inside the task of ``srun``: it has set everything, for processes of its own."""
    if not all(name in known for name in [*_PLACE, *_MEETING]):
        return False
    has_store = known.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return has_store or reader.number("WORLD_SIZE") > reader.number("SLURM_NTASKS", default=1)


class _Reader:
    """Reads variables, and words what is wrong with them."""

    def __init__(self, known: Mapping[str, str], backend: str) -> None:
        self.known = known
        self.backend = backend

    def error(self, problem: str) -> ValueError:
        rank = self.known.get("RANK", self.known.get("SLURM_PROCID", "unknown"))
        return ValueError(f"idist.initialize (backend {self.backend}, rank {rank}): {problem}")

    def number(self, *names: str, default: int | None = None) -> int:
        for name in names:
            if name in self.known:
                value = self.known[name].strip()
                if not value.isdecimal():
                    raise self.error(f"{name}={self.known[name]!r} must be a whole number of at least 0")
                return int(value)
        assert default is not None
        return default

    def meeting(self) -> tuple[str | None, int | None]:
        port = self.number("MASTER_PORT") if "MASTER_PORT" in self.known else None
        if port is not None and not 0 < port < 2**16:
            raise self.error(f"MASTER_PORT={self.known['MASTER_PORT']!r} must be between 1 and 65535")
        return self.known.get("MASTER_ADDR"), port
