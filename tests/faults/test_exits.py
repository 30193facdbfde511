"""However a program ends, and whatever it was doing, its status is its own, and it is never aborted."""

import json
import os
import subprocess
import sys

import pytest
import torch.distributed as dist

from tests.faults.sizes import sized


@pytest.mark.skipif(not hasattr(os, "fork") or not dist.is_gloo_available(), reason="needs fork and the gloo backend")
def test_programs_that_end_in_the_middle_of_something_leave_with_their_own_status() -> None:
    """A logger that is not closed, a save in progress, a bar that is drawn, a vote; at the end, an exit, an error."""
    starts = sized(12, 500)
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.exits", "--starts", str(starts)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=sized(300, 6000),
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"starts": starts, "wrong": []}, done.stderr[-5000:]
