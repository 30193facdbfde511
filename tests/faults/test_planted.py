"""Every bug of the table is caught by the test that it names."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ignite_core.engine.data import epochs
from tests.faults.planted.table import Planted, all_planted
from tests.faults.sizes import FULL

PLANTED = all_planted()
ROOT = Path(__file__).parents[2]
STARTUP = ROOT / "tests" / "faults" / "startup"

#: What pytest returns when tests have run and some failed; anything else means that the test itself is out of order.
TESTS_FAILED = 1


def run_with(name: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run Python with a bug in the process and all its children."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (STARTUP, ROOT, ROOT / "contrib"))),
        "IGNITE_CORE_FAULTS": "",
        "IGNITE_CORE_PLANTED": name,
    }
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False
    )


@pytest.mark.parametrize("bug", PLANTED, ids=lambda bug: bug.name)
def test_a_bug_can_be_planted_and_names_a_test(bug: Planted) -> None:
    """Planting raises an error if a name that the bug replaces is gone."""
    with pytest.MonkeyPatch.context() as patch:
        bug.plant(patch)
        replaced = [(owner, name, original) for owner, name, original in patch._setattr]
        assert replaced
        assert all(vars(owner).get(name) is not original for owner, name, original in replaced)
    test = re.split(r"[\[ ]", bug.caught_by)[0]
    file, *names = test.split("::")
    source = (ROOT / file).read_text(encoding="utf-8")

    assert all(re.search(rf"^(async )?(def|class) {name}\b", source, re.MULTILINE) for name in names)


@pytest.mark.skipif(not FULL, reason="runs a test for each bug: part of `make faults`")
@pytest.mark.parametrize("bug", PLANTED, ids=lambda bug: bug.name)
def test_a_planted_bug_is_caught(bug: Planted) -> None:
    test, _, chosen = bug.caught_by.partition(" ")
    command = ["-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", "-x", "-q", test]
    done = run_with(bug.name, *command, *(["-k", chosen] if chosen else []))

    assert done.returncode == TESTS_FAILED, done.stdout + done.stderr


def test_a_bug_is_planted_in_each_process_that_imports_the_library() -> None:
    show = "from ignite_core.engine.data import epochs; print('dataset' in epochs._WRAPPED)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {show!r}]); {show}"

    assert "dataset" in epochs._WRAPPED
    assert run_with("a dataset does not get the epoch", "-c", code).stdout.split() == ["False", "False"]


def test_the_page_on_reliability_lists_what_was_planted() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8").partition("## Planted bugs")[2]

    assert sorted(re.findall(r"^\| (.+?) \| `", page, re.MULTILINE)) == sorted(bug.name for bug in PLANTED)
