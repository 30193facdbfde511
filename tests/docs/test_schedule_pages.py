"""Every curve has its picture, and every scheduler its place in the documentation."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ignite_core.handlers import schedules
from ignite_core.handlers.schedules import curves

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "schedules.md").read_text(encoding="utf-8")
CURVES = [name for name in curves.__all__ if name != "Curve"]


def pictures() -> list[str]:
    """The expressions that are drawn."""
    found = re.findall(r"```\{curve\}\n(.*?)```", PAGE, re.DOTALL)
    return [line for block in found for line in block.splitlines() if line.strip()]


@pytest.mark.parametrize("name", CURVES)
def test_a_curve_is_documented_once_and_shown(name: str) -> None:
    assert PAGE.count(f".. autoclass:: ignite_core.handlers.schedules.curves.{name}\n") == 1
    assert any(expression.startswith(f"{name}(") for expression in pictures())


@pytest.mark.parametrize("expression", pictures())
def test_what_is_drawn_is_a_curve(expression: str) -> None:
    curve: Callable[[int], float] = eval(expression, {name: getattr(curves, name) for name in curves.__all__})

    assert all(0 <= curve(step) <= 1 for step in range(100))


def _public() -> list[str]:
    import ignite_core.handlers as handlers

    return [
        name for name in handlers.__all__ if getattr(handlers, name).__module__.startswith(f"{schedules.__name__}.")
    ]


@pytest.mark.parametrize("name", _public())
def test_a_scheduler_is_documented_once(name: str) -> None:
    lines = (DOCS / "api.md").read_text(encoding="utf-8").splitlines()

    assert sum(line.endswith(f":: ignite_core.handlers.{name}") for line in lines) == 1


def test_a_picture_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sphinx")
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(DOCS)
    curve_pictures: Any = pytest.importorskip("curve_pictures")

    curve_pictures.draw(["linear(0.0, 1.0, steps=80)"], tmp_path / "picture.png")

    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
