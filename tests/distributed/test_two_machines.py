"""Two machines: two network namespaces of this one, with a cable between them, and torchrun on each."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch.distributed as dist

from ignite_contrib.curves import read_curves
from tests.distributed.launching import node, run_commands

pytestmark = pytest.mark.skipif(not dist.is_gloo_available(), reason="needs the gloo backend, this torch has none")

DIGITS = Path(__file__).parents[2] / "examples" / "digits.py"

#: Nobody else sees them: the namespaces have no other link.
ADDRESSES = ("10.0.0.1", "10.0.0.2")
PORT = 29500

WHERE = """
import ignite_core.distributed as idist

idist.initialize("gloo")
place = [idist.get_rank(), idist.get_world_size(), idist.get_local_rank()]
nodes = [idist.get_node_rank(), idist.get_nnodes(), idist.get_nproc_per_node()]
print(f"{place} {nodes} {idist.all_reduce(10 ** idist.get_rank())}\\n", end="", flush=True)
idist.finalize()
"""


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=30)


@pytest.fixture(scope="module")
def on_both() -> Iterator[Callable[..., list[str]]]:
    """Runs a script with torchrun on both machines, two ranks on each; returns what the machines printed."""
    if shutil.which("ip") is None:
        pytest.skip("needs the command ip, of the package iproute2")
    names = [f"ignite_{os.getpid()}_{number}" for number in range(2)]
    with ExitStack() as stack:
        try:
            for name in names:
                ip("netns", "add", name)
                stack.callback(ip, "netns", "delete", name)  # and with it the end of the cable that it has
            ip("link", "add", "cable", "netns", names[0], "type", "veth", "peer", "name", "cable", "netns", names[1])
            for name, address in zip(names, ADDRESSES, strict=True):
                ip("-n", name, "address", "add", f"{address}/24", "dev", "cable")
                ip("-n", name, "link", "set", "cable", "up")
                ip("-n", name, "link", "set", "lo", "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"needs network namespaces: {' '.join(error.cmd)}: {error.stderr.strip()}")

        def run(*script: str) -> list[str]:
            endpoint = f"{ADDRESSES[0]}:{PORT}"
            commands = [
                ["ip", "netns", "exec", name, *node(number, endpoint, "--local-addr", ADDRESSES[number], *script)]
                for number, name in enumerate(names)
            ]
            return run_commands(*commands, GLOO_SOCKET_IFNAME="cable")

        yield run


def test_ranks_on_two_machines(on_both: Callable[..., list[str]], tmp_path: Path) -> None:
    """Ranks know their place and can communicate."""
    script = tmp_path / "where.py"
    script.write_text(WHERE)

    printed = on_both(str(script))

    assert [sorted(lines.splitlines()) for lines in printed] == [
        [f"[{rank}, 4, {rank % 2}] [{rank // 2}, 2, 2] 1111" for rank in ranks] for ranks in [(0, 1), (2, 3)]
    ]


def test_training_on_two_machines(on_both: Callable[..., list[str]], tmp_path: Path) -> None:
    """The result is that of one process.

    The batches are the same, each spread over the four ranks; the sums of floats differ in their order.
    """
    options = (str(DIGITS), "--epochs", "2", "--out")

    on_both(*options, str(tmp_path / "both"))
    run_commands([sys.executable, *options, str(tmp_path / "alone")])

    both, alone = (read_curves(tmp_path / name / "metrics.csv") for name in ("both", "alone"))
    assert both["validation/accuracy"] == alone["validation/accuracy"]
    for name in ("validation/loss", "training/loss"):
        assert list(alone[name]) == [1, 2]
        assert both[name] == pytest.approx(alone[name], rel=1e-4)
    assert (tmp_path / "both" / "best_model.pt").exists()
