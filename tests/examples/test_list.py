"""Every example is told of, and runs in a test of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_listed_and_tested(script: Path) -> None:
    assert f"`{script.name}`" in (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
    assert (ROOT / "tests" / "examples" / f"test_{script.name}").exists()
