"""The rank of this process, read from environment variables. Pure functions of a mapping: nothing is started here.

Supported launchers: torchrun and others that set its variables, SLURM's ``srun``, and none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Launch", "Place", "expand_nodelist", "read_launch"]


@dataclass(frozen=True, slots=True)
class Launch:
    """How a launcher started this process.

    Attributes:
        rank: Rank of the process, from 0.
        world_size: Number of processes.
        local_rank: Its rank on its node, from 0; None if it is not known.
        master_addr: Host of the store in which the processes meet; None for a single process.
        master_port: Port of that store; None for a single process.
        node: The launcher's name of the node; None if it has none.
        source: Where these values come from, for messages.
        launcher_runs_store: The launcher runs the store; else rank 0 does.
        may_restart: The launcher may end and restart the processes with the same store.
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
    """Rank of a process, and of its node."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    nproc_per_node: int = 1
    nnodes: int = 1
    node_rank: int = 0


#: The variables of torchrun for the rank of a process, and those of SLURM with the same meaning.
_RANKS = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_NTASKS", "LOCAL_RANK": "SLURM_LOCALID"}
_ADDRESS = ("MASTER_ADDR", "MASTER_PORT")

#: The variables for the nodes of a step of SLURM, or else of its job.
_NODELISTS = ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST")


def read_launch(environment: Mapping[str, str], backend: str = "gloo") -> Launch | None:
    """Find out how this process was launched.

    Args:
        environment: Such as ``os.environ``.
        backend: For messages.

    Returns:
        None if it was not launched as one of several: no variable of torchrun is set, and it is not a task of ``srun``.

    Raises:
        ValueError: If only some variables are set, are not numbers, or contradict each other. The message names the
            variables, their values, the rank if it is known, and the backend.

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
    names = [*_RANKS, *_ADDRESS]
    if not any(name in known for name in names):
        return None
    required = list(_RANKS) if known.get("WORLD_SIZE") == "1" else names
    missing = [name for name in required if name not in known]
    if missing:
        present = ", ".join(f"{name}={known[name]!r}" for name in names if name in known)
        raise reader.error(
            f"set are {present}, but not {', '.join(missing)}; set all of them, as torchrun does, or none"
        )
    rank, world_size, local_rank = (reader.number(name) for name in _RANKS)
    launch = Launch(
        rank,
        world_size,
        local_rank,
        *reader.address(),
        node=known.get("GROUP_RANK"),
        source="torchrun" if "TORCHELASTIC_RUN_ID" in known else "the environment",
        launcher_runs_store=known.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
        may_restart="TORCHELASTIC_RUN_ID" in known,
    )
    reader.check(launch, *_RANKS)
    return launch


def expand_nodelist(nodelist: str) -> list[str]:
    """The hosts of a SLURM node list, in its order.

    Args:
        nodelist: Such as the value of ``SLURM_JOB_NODELIST``.

    Raises:
        ValueError: If it is not a node list.

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
    """A task of ``srun``. Variables of torchrun may be set too, by site hooks or scripts, to the same values."""
    missing = [name for name in [*_RANKS.values(), "SLURM_JOB_ID"] if name not in known]
    nodes = next((name for name in _NODELISTS if name in known), None)
    if nodes is None:
        missing.append("SLURM_JOB_NODELIST")
    if missing:
        raise reader.error(
            f"set is SLURM_PROCID={known['SLURM_PROCID']!r}, but not {', '.join(missing)}; "
            "start the script with srun, or unset SLURM_PROCID to run it alone"
        )
    for name, slurm_name in _RANKS.items():
        if name in known and reader.number(name) != reader.number(slurm_name):
            raise reader.error(
                f"{name}={known[name]!r} contradicts {slurm_name}={known[slurm_name]!r}; unset {name}, or make them "
                "the same"
            )
    world_size = reader.number("SLURM_NTASKS")
    if world_size > 1 and "SLURM_STEP_ID" not in known and "SLURM_STEPID" not in known:
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
        raise reader.error(f"SLURM_JOB_ID={known['SLURM_JOB_ID']!r} is not a number")
    # one port for all tasks of a step, another one for the next step of the job; below the ephemeral ports
    port = 20_000 + (int(job[0]) + 97 * reader.number("SLURM_STEP_ID", "SLURM_STEPID", default=0)) % 10_000
    given_host, given_port = reader.address()
    launch = Launch(
        reader.number("SLURM_PROCID"),
        world_size,
        reader.number("SLURM_LOCALID"),
        given_host or host,
        given_port or port,
        node=known.get("SLURM_NODEID"),
        source="SLURM",
    )
    reader.check(launch, *_RANKS.values())
    return launch


def _is_small_batch(known: Mapping[str, str]) -> bool:
    """Whether this is the batch script of a job on one node without a number of tasks."""
    has_tasks = any(name in known for name in ("SLURM_NTASKS", "SLURM_STEP_ID", "SLURM_STEPID"))
    return not has_tasks and known.get("SLURM_JOB_NUM_NODES") == "1"


def _is_launched_within_slurm(known: Mapping[str, str], reader: _Reader) -> bool:
    """Whether another launcher runs inside the task of ``srun``: it has set all variables, for its own processes."""
    if not all(name in known for name in [*_RANKS, *_ADDRESS]):
        return False
    has_store = known.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return has_store or reader.number("WORLD_SIZE") > reader.number("SLURM_NTASKS", default=1)


class _Reader:
    """Reads and checks variables."""

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
                    raise self.error(f"{name}={self.known[name]!r} must be an integer of at least 0")
                return int(value)
        assert default is not None
        return default

    def address(self) -> tuple[str | None, int | None]:
        port = self.number("MASTER_PORT") if "MASTER_PORT" in self.known else None
        if port is not None and not 0 < port < 2**16:
            raise self.error(f"MASTER_PORT={self.known['MASTER_PORT']!r} must be between 1 and 65535")
        return self.known.get("MASTER_ADDR"), port

    def check(self, launch: Launch, rank: str, world_size: str, local_rank: str) -> None:
        """Check the ranks, which were read from variables with these names."""
        if launch.world_size < 1:
            raise self.error(f"{world_size}='0' must be at least 1")
        if launch.rank >= launch.world_size:
            raise self.error(f"{rank}='{launch.rank}' must be below {world_size}='{launch.world_size}'")
        if launch.local_rank is not None and launch.local_rank > launch.rank:
            raise self.error(f"{local_rank}='{launch.local_rank}' must not be above {rank}='{launch.rank}'")
