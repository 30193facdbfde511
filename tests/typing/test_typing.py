"""What a type checker makes of the public names: everything in ``api.py`` passes, and each marked line fails."""

import re
from pathlib import Path

import pytest

api = pytest.importorskip("mypy.api")

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

# The types of torch are not at stake here, and reading them takes a minute.
CONFIG = f"""
[mypy]
strict = True
mypy_path = {ROOT}
explicit_package_bases = True
warn_unused_ignores = False
[mypy-torch.*]
follow_imports = skip
"""


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[int, set[str]]]:
    """The codes of all errors, by file and line."""
    folder = tmp_path_factory.mktemp("mypy")
    (folder / "mypy.ini").write_text(CONFIG, encoding="utf-8")
    arguments = ["--config-file", folder / "mypy.ini", "--cache-dir", folder / "cache", "--no-error-summary"]
    output, problems, _ = api.run([str(argument) for argument in [*arguments, HERE / "api.py", HERE / "must_fail.py"]])
    assert problems == ""
    found: dict[str, dict[int, set[str]]] = {"api.py": {}, "must_fail.py": {}}
    for line in output.splitlines():
        match = re.fullmatch(r"(.+?):(\d+): (error|note): (.*)", line)
        assert match, line
        path, number, kind, message = match.groups()
        if kind == "error" and Path(path).parent.name == HERE.name:
            code = re.search(r"\[([\w-]+)\]$", message)
            found[Path(path).name].setdefault(int(number), set()).add(code[1] if code else message)
    return found


def test_everything_in_api_passes(errors):
    assert errors["api.py"] == {}


def test_exactly_the_marked_lines_fail_and_for_the_reason_they_name(errors):
    lines = (HERE / "must_fail.py").read_text(encoding="utf-8").splitlines()
    marked = {
        number: set(match[1].split(", "))
        for number, line in enumerate(lines, 1)
        if (match := re.search(r"# error: ([\w, -]+?)  # pyright: ignore$", line))
    }

    assert len(marked) > 20
    assert errors["must_fail.py"] == marked
