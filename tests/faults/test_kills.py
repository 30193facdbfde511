"""R2: a run that is killed at any moment and resumed ends as one that nobody killed, bit for bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.faults.sizes import FULL, sized

ROOT = Path(__file__).parents[2]
KILLS = sized(50, 3_000)


def test_killed_runs_end_like_the_one_that_was_not() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.kill_runs", "--kills", str(KILLS), "--seed", "1"],
        cwd=ROOT,
        env={**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")},
        capture_output=True,
        text=True,
        timeout=3_600 if FULL else 300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    print(report)

    assert report["faults"] == []
    assert report["kills"] >= KILLS
    assert report["kills_in_a_save"] >= KILLS // 4
