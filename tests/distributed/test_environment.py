"""What read_launch makes of the variables of launchers, and what it says of those that do not fit together."""

from __future__ import annotations

import itertools
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ignite_core.distributed.launch.environment import Launch, expand_nodelist, read_launch

TORCH = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "gpu08", "MASTER_PORT": "29500"}

ALONE = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}

#: What torchrun sets beside.
ELASTIC = {
    "GROUP_RANK": "1",
    "TORCHELASTIC_RUN_ID": "none",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
    "TORCHELASTIC_RESTART_COUNT": "2",
}

#: Task 3 of `srun --nodes 2 --ntasks-per-node 2`, the second step of the job.
SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "1",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_PROCID": "3",
    "SLURM_NTASKS": "4",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_JOB_NODELIST": "gpu[08-11]",
    "SLURM_STEP_NODELIST": "gpu[09-10]",
}


def without(environment: dict[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name not in names}


def read(environment: dict[str, str]) -> Launch:
    launch = read_launch(environment)
    assert launch is not None
    return launch


def refusal(environment: dict[str, str], backend: str = "gloo") -> str:
    with pytest.raises(ValueError, match=r"^idist\.initialize ") as caught:
        read_launch(environment, backend)
    return str(caught.value)


# --------------------------------------------------------------------------------------------------- alone and torchrun


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"PATH": "/bin", "OMP_NUM_THREADS": "1"},
        dict.fromkeys(TORCH, ""),
        {"LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0"},  # they do not say which process this is
        {"SLURM_JOB_ID": "4711", "SLURM_NTASKS": "4", "SLURM_JOB_NODELIST": "gpu[08-11]"},  # the shell of salloc
    ],
    ids=["nothing", "others", "empty strings", "half of what torchrun sets besides", "a job of SLURM, but no task"],
)
def test_process_without_launcher(environment: dict[str, str]) -> None:
    """It is a run of one process."""
    assert read_launch(environment) is None


def test_torch_variables() -> None:
    """They are read from any launcher."""
    assert read(TORCH) == Launch(3, 4, 1, "gpu08", 29500, source="the environment")


def test_torchrun_variables() -> None:
    """They contain the node, and that torchrun runs the store."""
    assert read(TORCH | ELASTIC) == Launch(
        3, 4, 1, "gpu08", 29500, node="1", source="torchrun", launcher_runs_store=True, may_restart=True
    )


def test_torchrun_without_store() -> None:
    """Rank 0 runs the store."""
    assert not read(TORCH | ELASTIC | {"TORCHELASTIC_USE_AGENT_STORE": "False"}).launcher_runs_store


def test_one_process_needs_no_address() -> None:
    assert read(ALONE) == Launch(0, 1, 0)


def test_space_around_numbers() -> None:
    assert read(TORCH | {"RANK": " 3\n"}).rank == 3


SUBSETS = [
    dict(subset) for size in range(1, len(TORCH)) for subset in itertools.combinations(TORCH.items(), size)
]  # all but none and all: 30


@pytest.mark.parametrize("backend", ["gloo", "nccl"])
@pytest.mark.parametrize("half", SUBSETS, ids="+".join)
def test_incomplete_variables(half: dict[str, str], backend: str) -> None:
    """Whichever are set: the message has each of them with its value, and the name of each that is missing."""
    there, missing = refusal(half, backend).split(", but not ")

    assert there == f"idist.initialize (backend {backend}, rank {half.get('RANK', 'unknown')}): set are " + ", ".join(
        f"{name}='{value}'" for name, value in half.items()
    )
    assert missing == ", ".join(without(TORCH, *half)) + "; set all of them, as torchrun does, or none"


@pytest.mark.parametrize("name", TORCH)
def test_empty_variables(name: str) -> None:
    """They count as not set."""
    assert refusal(TORCH | {name: ""}) == refusal(without(TORCH, name))


@pytest.mark.parametrize("value", ["one", "-1", "1.0", "0x1", "1e0", " ", "²", "1 2", "None"])
@pytest.mark.parametrize("name", ["RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT"])
def test_invalid_numbers(name: str, value: str) -> None:
    """The error has the name and the value."""
    rank = value if name == "RANK" else "3"

    assert refusal(TORCH | {name: value}, "nccl") == (
        f"idist.initialize (backend nccl, rank {rank}): {name}={value!r} must be an integer of at least 0"
    )


@pytest.mark.parametrize("port", ["0", "65536", "99999999"])
def test_a_port_is_between_1_and_65535(port: str) -> None:
    message = refusal(TORCH | {"MASTER_PORT": port})

    assert message == f"idist.initialize (backend gloo, rank 3): MASTER_PORT='{port}' must be between 1 and 65535"


@pytest.mark.parametrize("port", ["1", "65535"])
def test_lowest_and_highest_port(port: str) -> None:
    assert read(TORCH | {"MASTER_PORT": port}).master_port == int(port)


@pytest.mark.parametrize(
    ("contradiction", "words"),
    [
        ({"RANK": "4"}, "rank 4): RANK='4' must be below WORLD_SIZE='4'"),
        ({"RANK": "7"}, "rank 7): RANK='7' must be below WORLD_SIZE='4'"),
        ({"WORLD_SIZE": "0"}, "rank 3): WORLD_SIZE='0' must be at least 1"),
        ({"RANK": "0", "LOCAL_RANK": "1"}, "rank 0): LOCAL_RANK='1' must not be above RANK='0'"),
    ],
)
def test_contradictions_are_refused(contradiction: dict[str, str], words: str) -> None:
    assert refusal(TORCH | contradiction) == f"idist.initialize (backend gloo, {words}"


# ---------------------------------------------------------------------------------------------------------------- SLURM


def test_a_task_of_srun_is_read() -> None:
    """Rank 0 runs on the first node of the step; the port follows from job and step: 20000 + 4711 + 97."""
    assert read(SLURM) == Launch(3, 4, 1, "gpu09", 24808, node="1", source="SLURM")


def test_slurm_tasks_have_one_address() -> None:
    tasks = [SLURM | {"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i % 2), "SLURM_NODEID": str(i // 2)} for i in (2, 3)]

    assert len({(read(task).master_addr, read(task).master_port) for task in tasks}) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"SLURM_STEP_ID": "2"},
        {"SLURM_JOB_ID": "4712"},
        # a task of a job array has a number of its own
        {"SLURM_JOB_ID": "4712", "SLURM_ARRAY_JOB_ID": "4711", "SLURM_ARRAY_TASK_ID": "1"},
    ],
    ids=["step", "job", "job of an array"],
)
def test_slurm_steps_have_different_ports(other: dict[str, str]) -> None:
    """So have jobs."""
    assert read(SLURM | other).master_port != read(SLURM).master_port


@given(st.integers(0, 2**32), st.integers(0, 2**32))
def test_slurm_port_is_not_ephemeral(job: int, step: int) -> None:
    """Linux gives 32768 and above to whoever asks for any port."""
    port = read(SLURM | {"SLURM_JOB_ID": str(job), "SLURM_STEP_ID": str(step)}).master_port

    assert port is not None
    assert 1024 < port < 32768


def test_node_list_of_the_job() -> None:
    """It is used if the step has none."""
    assert read(without(SLURM, "SLURM_STEP_NODELIST")).master_addr == "gpu08"


def test_older_names_of_slurm_variables() -> None:
    old = without(SLURM, "SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS")

    assert read(old | {"SLURM_NODELIST": "gpu[09-10]", "SLURM_STEPID": "1"}) == read(SLURM)


def test_single_task_without_step() -> None:
    """As in a batch script of one task, which srun has not started."""
    alone = {"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_LOCALID": "0"}

    assert read(without(SLURM | alone, "SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS")).world_size == 1


#: In the script that `sbatch` runs for a job of one node, if no number of tasks was asked for.
BATCH = {
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_NODELIST": "gpu08",
    "SLURM_JOB_NUM_NODES": "1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
}


def test_batch_script_without_tasks() -> None:
    """It is a run of one process."""
    assert read_launch(BATCH) is None
    assert read(BATCH | TORCH) == read(TORCH)


def test_batch_script_on_several_nodes() -> None:
    """It is refused."""
    message = refusal(BATCH | {"SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "gpu[08-09]"})

    assert message.endswith(
        "rank 0): set is SLURM_PROCID='0', but not SLURM_NTASKS; start the script with srun, "
        "or unset SLURM_PROCID to run it alone"
    )


@pytest.mark.parametrize("name", ["SLURM_NTASKS", "SLURM_LOCALID", "SLURM_JOB_ID"])
def test_incomplete_slurm_variables(name: str) -> None:
    assert refusal(without(SLURM, name), "nccl") == (
        f"idist.initialize (backend nccl, rank 3): set is SLURM_PROCID='3', but not {name}; "
        "start the script with srun, or unset SLURM_PROCID to run it alone"
    )


def test_task_without_node_list() -> None:
    """It is refused."""
    assert "but not SLURM_JOB_NODELIST" in refusal(without(SLURM, "SLURM_JOB_NODELIST", "SLURM_STEP_NODELIST"))


def test_batch_script_of_many_tasks() -> None:
    """It is refused before it waits for other tasks."""
    batch = without(SLURM, "SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS") | {"SLURM_PROCID": "0", "SLURM_LOCALID": "0"}

    assert refusal(batch).startswith(
        "idist.initialize (backend gloo, rank 0): SLURM_NTASKS='4', but SLURM_STEP_ID is not set: "
        "this process was not started by srun"
    )


def test_shell_of_salloc() -> None:
    """It is refused before it waits for other tasks.

    Slurm's interactive step: one task, which is told the number of tasks of the job.
    """
    shell = SLURM | {
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURM_STEP_ID": "4294967290",
        "SLURM_STEP_NUM_TASKS": "1",
    }

    assert refusal(shell).startswith(
        "idist.initialize (backend gloo, rank 0): SLURM_NTASKS='4' contradicts SLURM_STEP_NUM_TASKS='1'"
    )


@pytest.mark.parametrize(
    ("contradiction", "words"),
    [
        ({"SLURM_PROCID": "4"}, "SLURM_PROCID='4' must be below SLURM_NTASKS='4'"),
        ({"SLURM_NTASKS": "0", "SLURM_STEP_NUM_TASKS": "0"}, "SLURM_NTASKS='0' must be at least 1"),
        ({"SLURM_LOCALID": "4"}, "SLURM_LOCALID='4' must not be above SLURM_PROCID='3'"),
        ({"SLURM_LOCALID": "x"}, "SLURM_LOCALID='x' must be an integer of at least 0"),
        ({"SLURM_JOB_ID": "x"}, "SLURM_JOB_ID='x' is not a number"),
        ({"SLURM_STEP_NODELIST": "gpu[9-"}, "SLURM_STEP_NODELIST='gpu[9-' cannot be read"),
    ],
)
def test_contradictory_slurm_variables(contradiction: dict[str, str], words: str) -> None:
    """The error names Slurm's variables."""
    rank = contradiction.get("SLURM_PROCID", "3")

    assert refusal(SLURM | contradiction) == f"idist.initialize (backend gloo, rank {rank}): {words}"


# ----------------------------------------------------------------------------------------------- more than one launcher


@pytest.mark.parametrize("told", [*SUBSETS, TORCH], ids="+".join)
def test_equal_torch_and_slurm_variables(told: dict[str, str]) -> None:
    """As site hooks and batch scripts set them: any of them, the address and port to meet at among them."""
    launch = read(SLURM | told)

    assert launch == Launch(
        *(3, 4, 1, told.get("MASTER_ADDR", "gpu09"), int(told.get("MASTER_PORT", "24808"))), node="1", source="SLURM"
    )


@pytest.mark.parametrize(
    ("name", "theirs"), [("RANK", "SLURM_PROCID"), ("WORLD_SIZE", "SLURM_NTASKS"), ("LOCAL_RANK", "SLURM_LOCALID")]
)
def test_different_torch_and_slurm_variables(name: str, theirs: str) -> None:
    """They are refused."""
    message = refusal(SLURM | {name: "2"})

    assert f"{name}='2' contradicts {theirs}='{SLURM[theirs]}'; unset {name}, or make them the same" in message


#: The one task that `srun --ntasks-per-node 1` starts on the first of two nodes, to launch others there.
ONE_TASK_A_NODE = SLURM | {
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NTASKS": "2",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_NODEID": "0",
}


@pytest.mark.parametrize(
    "theirs",
    [ELASTIC, {"GROUP_RANK": "1", "TORCHELASTIC_USE_AGENT_STORE": "True"}, {}],
    ids=["torchrun", "spawn", "a launcher of the site"],
)
def test_launcher_inside_srun(theirs: dict[str, str]) -> None:
    """The variables of the launcher are used."""
    assert read(ONE_TASK_A_NODE | TORCH | theirs) == read(TORCH | theirs)


def test_spawned_processes_inside_srun() -> None:
    """The variables of the spawned processes are used.

    There are as many processes as tasks; that the store exists already shows that this process is not a task.
    """
    task = ONE_TASK_A_NODE | {"SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1"}

    assert read(task | ALONE | {"MASTER_ADDR": "a", "MASTER_PORT": "1", "TORCHELASTIC_USE_AGENT_STORE": "True"}) == (
        Launch(0, 1, 0, "a", 1, launcher_runs_store=True)
    )


# ----------------------------------------------------------------------------------------------------------- node lists


@pytest.mark.parametrize(
    ("nodelist", "hosts"),
    [
        ("localhost", ["localhost"]),
        ("a,b,a", ["a", "b", "a"]),
        ("gpu[1-3]", ["gpu1", "gpu2", "gpu3"]),
        ("gpu[3,1-2]", ["gpu3", "gpu1", "gpu2"]),
        ("gpu[8-11]", ["gpu8", "gpu9", "gpu10", "gpu11"]),
        ("gpu[08-11]", ["gpu08", "gpu09", "gpu10", "gpu11"]),
        ("gpu[098-101]", ["gpu098", "gpu099", "gpu100", "gpu101"]),
        ("gpu[5]", ["gpu5"]),
        ("gpu[7-7]", ["gpu7"]),
        ("[1-2]", ["1", "2"]),
        ("gpu[1-2]-ib.my-site.org", ["gpu1-ib.my-site.org", "gpu2-ib.my-site.org"]),
        ("r[1-2]n[01-02]", ["r1n01", "r1n02", "r2n01", "r2n02"]),
        ("r[1,3]c[0]n[8-9]x", ["r1c0n8x", "r1c0n9x", "r3c0n8x", "r3c0n9x"]),
        ("login,gpu[1-2],cpu-7,big[09-10]", ["login", "gpu1", "gpu2", "cpu-7", "big09", "big10"]),
        ("a[1,3-4],b", ["a1", "a3", "a4", "b"]),
    ],
)
def test_node_lists(nodelist: str, hosts: list[str]) -> None:
    """They are expanded in order."""
    assert expand_nodelist(nodelist) == hosts


@pytest.mark.parametrize(
    "nodelist",
    [
        *("", " ", ",", "a,", ",a", "a,,b", "a b", "a, b", "a[1] ,b"),
        *("a[", "a]", "a[1", "a1]", "a[]", "a[1]]", "a[[1]]", "a[1][", "[1,a[2]"),
        *("a[x]", "a[-]", "a[1-]", "a[-1]", "a[1--2]", "a[1-2-3]", "a[1,]", "a[,1]", "a[1,,2]", "a[3-1]", "a[1 - 2]"),
    ],
)
def test_invalid_node_lists(nodelist: str) -> None:
    """The error quotes them."""
    with pytest.raises(ValueError, match=r"^not a SLURM node list: ") as caught:
        expand_nodelist(nodelist)

    assert repr(nodelist) in str(caught.value)


def compress(prefix: str, numbers: list[tuple[int, int]], suffix: str) -> str:
    """What SLURM writes for hosts of one name: numbers of one width that follow each other become a range."""
    runs: list[list[tuple[int, int]]] = []
    for width, number in numbers:
        if runs and runs[-1][-1] == (width, number - 1):
            runs[-1].append((width, number))
        else:
            runs.append([(width, number)])
    texts = [f"{first:0{width}}" for (width, first), *_ in runs]
    ends = [f"-{run[-1][1]:0{run[-1][0]}}" if len(run) > 1 else "" for run in runs]
    return f"{prefix}[{','.join(first + last for first, last in zip(texts, ends, strict=True))}]{suffix}"


NAMES = st.text("abz-.", min_size=1, max_size=4)
NUMBERS = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 120)), min_size=1, max_size=12)


@given(st.lists(st.tuples(NAMES, NUMBERS, NAMES | st.just("")), min_size=1, max_size=4))
def test_compressed_node_lists(racks: list[tuple[str, list[tuple[int, int]], str]]) -> None:
    """Expanding restores the names."""
    hosts = [f"{prefix}{number:0{width}}{suffix}" for prefix, numbers, suffix in racks for width, number in numbers]

    assert expand_nodelist(",".join(compress(*rack) for rack in racks)) == hosts


@given(st.text("ab1-[],", max_size=9))
def test_expanded_names(text: str) -> None:
    """They have no bracket and no comma. Any other text is refused, by a ValueError and nothing else."""
    with suppress(ValueError):
        hosts = expand_nodelist(text)

        assert hosts
        assert all(host and not set(host) & set("[],") for host in hosts)
