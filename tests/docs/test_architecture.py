"""The tree in docs/architecture.md names every package, and none that does not exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_tree_shows_every_package() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    tree = text.split("```text\n")[1].split("```")[0]
    shown: set[Path] = set()
    at: list[tuple[int, Path]] = []
    for line in tree.splitlines():
        indent = len(line) - len(line.lstrip())
        names = re.findall(r"(\S+)/(?=\s|$)", re.split(r"\s{3,}(?=[a-z`])", line.strip())[0])
        at = [(depth, path) for depth, path in at if depth < indent]
        folder = at[-1][1] if at else Path()
        shown |= {folder / name for name in names}
        if names:
            at.append((indent, folder / names[-1]))
    packages = {
        path.parent.relative_to(ROOT)
        for name in ("ignite_core", "contrib")
        for path in (ROOT / name).rglob("__init__.py")
    }

    assert shown == packages
