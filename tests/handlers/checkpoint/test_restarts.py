"""R15: a rank is killed, torchrun starts all of them again, and the run ends as if nothing had happened."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from ignite_core.testing import run_distributed
from tests.distributed.launching import run_commands, torchrun
from tests.faults.sizes import FULL
from tests.handlers.checkpoint import restarted
from tests.handlers.checkpoint.comparing import same

pytestmark = pytest.mark.skipif(not dist.is_gloo_available(), reason="needs the gloo backend, this torch has none")


@pytest.mark.parametrize(("ranks", "guilty"), [(2, 0), (2, 1), *((4, rank) for rank in range(4))] if FULL else [(2, 1)])
def test_after_the_death_of_a_rank_torchrun_ends_the_run_bit_for_bit(ranks: int, guilty: int, tmp_path: Path) -> None:
    whole = run_distributed(restarted.train, str(tmp_path / "whole"), None, ranks=ranks)

    command = torchrun("--standalone", "--nproc-per-node", str(ranks), "--max-restarts", "1")
    run_commands([*command, restarted.__file__, str(tmp_path), str(guilty)])

    for rank, (begun, states) in enumerate(whole):
        begun_again, ended = torch.load(tmp_path / f"rank_{rank}.ended")
        assert (begun, begun_again) == (0, restarted.KILLED_AFTER // 4 * 4)
        assert same(ended, states)
