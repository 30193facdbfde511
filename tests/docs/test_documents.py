"""Every Python block of README.md and docs/ runs: those of one file in order, as one script.

A block whose example cannot run follows a line ``<!-- not executed: reason -->``.
"""

import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

OPENING = re.compile(r" *(?P<fence>`{3,})python\s*")
NOT_EXECUTED = re.compile(r"\s*<!-- not executed: \S.* -->\s*")


def blocks(text: str) -> Iterator[tuple[int, str]]:
    """Each block that is to be run: how many lines stand above its code, and the code."""
    fence, code, above, previous, skip = "", [], 0, "", False
    for number, line in enumerate(text.splitlines(), start=1):
        if fence and line.strip() == fence:
            if not skip:
                yield above, dedent("\n".join(code))
            fence, previous = "", line
        elif fence:
            code.append(line)
        elif opening := OPENING.fullmatch(line):
            fence, code, above = opening["fence"], [], number
            skip = NOT_EXECUTED.fullmatch(previous) is not None
        elif line.strip():
            previous = line
    if fence:
        raise ValueError(f"the block that opens in line {above} is never closed")


def execute(document: Path) -> None:
    namespace = {"__name__": "__main__"}
    for above, code in blocks(document.read_text(encoding="utf-8")):
        exec(compile("\n" * above + code, document, "exec"), namespace)  # padded: errors name the document's own lines


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_block_of_a_document_runs(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    execute(document)


def test_blocks_of_one_document_share_their_names_and_marked_ones_are_left_out(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text(
        """
```python
seen = [1]
```
<!-- not executed: needs a cluster -->

```python
seen.append(2)
```
1. In a list:

   ```python
   seen.append(3)
   assert seen == [1, 3]
   ```
"""
    )

    execute(document)


def test_an_error_names_the_document_and_the_line(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text("# Page\n\n```python\nx = 1\nx / 0\n```\n")

    with pytest.raises(ZeroDivisionError) as caught:
        execute(document)

    last = traceback.extract_tb(caught.tb)[-1]
    assert (last.filename, last.lineno) == (str(document), 5)


@pytest.mark.parametrize("text", ["<!-- not executed: -->\n```python\n1 / 0\n```", "```python\n1 / 0\n````\n```"])
def test_a_block_runs_unless_a_reason_is_given(text: str) -> None:
    assert len(list(blocks(text))) == 1


def test_a_block_that_is_never_closed_is_an_error() -> None:
    with pytest.raises(ValueError, match="opens in line 2 is never closed"):
        list(blocks("text\n```python\nx = 1\n"))
