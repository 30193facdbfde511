"""Every bug of the table in planted.py is caught by the test that it names."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.planted import PLANTED, Planted
from tests.faults.sizes import FULL

ROOT = Path(__file__).parents[2]

#: What pytest returns when tests have run and some failed; anything else means that the test itself is out of order.
TESTS_FAILED = 1


@pytest.mark.parametrize("bug", PLANTED, ids=lambda bug: bug.name)
def test_a_planted_bug_stands_where_the_table_says_and_names_a_test(bug: Planted) -> None:
    test = re.split(r"[\[ ]", bug.caught_by)[0]
    file, *names = test.split("::")
    source = (ROOT / file).read_text(encoding="utf-8")

    assert (ROOT / bug.file).read_text(encoding="utf-8").count(bug.old) == 1
    assert bug.new != bug.old
    assert all(re.search(rf"^(async )?(def|class) {name}\b", source, re.MULTILINE) for name in names)


@pytest.mark.skipif(not FULL, reason="runs the tests anew for each bug: part of `make faults`")
@pytest.mark.parametrize("bug", PLANTED, ids=lambda bug: bug.name)
def test_a_planted_bug_is_caught(bug: Planted, tmp_path: Path) -> None:
    root = tmp_path / "checkout"
    ignore = shutil.ignore_patterns(".git", ".venv", "__pycache__", "_build", ".*_cache", ".hypothesis")
    shutil.copytree(ROOT, root, ignore=ignore)
    place = root / bug.file
    place.write_text(place.read_text(encoding="utf-8").replace(bug.old, bug.new), encoding="utf-8")
    test, _, chosen = bug.caught_by.partition(" ")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", "-x", "-q", test]
    done = subprocess.run(
        [*command, *(["-k", chosen] if chosen else [])],
        cwd=root,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "contrib")]), "IGNITE_CORE_FAULTS": ""},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )

    assert done.returncode == TESTS_FAILED, done.stdout + done.stderr


def test_the_page_on_reliability_lists_what_was_planted() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8").partition("## Planted bugs")[2]

    assert re.findall(r"^\| (.+?) \| `", page, re.MULTILINE) == [bug.name for bug in PLANTED]
