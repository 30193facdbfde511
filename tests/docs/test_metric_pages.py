"""Every public metric has its place in the documentation."""

from pathlib import Path

import pytest

import ignite_core.metrics

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ["api.md", "metrics_classification.md", "metrics_regression.md", "metrics_others.md"]


@pytest.mark.parametrize("name", ignite_core.metrics.__all__)
def test_a_public_name_is_documented_once(name: str) -> None:
    lines = [line for page in PAGES for line in (DOCS / page).read_text(encoding="utf-8").splitlines()]

    assert sum(line.endswith(f":: ignite_core.metrics.{name}") for line in lines) == 1
