"""Rules for the whole code base: no import cycles, small packages and modules, plain words, few missing types."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

from tests.frame.test_layers import ROOT, read_modules

#: The largest number of modules in a package, and of lines in a module.
MODULES, LINES = 20, 500

#: The largest number of `Any` in signatures and of `type: ignore` comments. Lower them when there are fewer; do not
#: raise them.
MOST_ANY, MOST_IGNORES = 1588, 60

#: Phrases that make a sentence hard to read, and what to write instead.
PHRASES = {
    r"whoever": "name the part that does it",
    r"(?<!there )(is|are) (?-i:none)": "is not a ..., is invalid",
    r"anew": "again",
    r"for ever": "forever",
    r"stands?(?!-| in | for )": "is",
    r"one's own": "custom, own",
    r"told(?! apart)": "is reported, receives",
    r"under way": "in progress, running",
    r"takes? leave": "deregister",
    r"(no|some|any)body": "name the part",
    r"mostly": "usually",
    r"come apart": "out of sync",
    r"does no harm": "is idempotent, has no effect",
    r"looks? (at|through|whether)": "check, read",
    r"looking (at|through|whether)": "checking, reading",
    r"such as (is|it)": "that exist",
    r"(what|wher)ever": "regardless of, any, all",
    r"(there|here|where)(by|in|of|to|upon)": "by it, in it",
    r"puts? back": "restored",
    r"lest|whence|thence|hither|naught|amongst|shall|forthwith": "say it in present-day English",
}

TEXTS = ["ignite_core/**/*.py", "contrib/**/*.py", "examples/**/*.py", "docs/**/*.md", "*.md"]


def find_cycle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one import cycle; empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


#: All phrases in one pattern, which is faster; the name of a group is the number of its phrase.
PATTERN = re.compile("|".join(rf"\b(?P<p{number}>{phrase})\b" for number, phrase in enumerate(PHRASES)), re.IGNORECASE)


def phrases_in(text: str) -> Iterator[str]:
    """``line: phrase (better)`` for each phrase that should not be used."""
    for found in PATTERN.finditer(text):
        better = list(PHRASES.values())[int(str(found.lastgroup)[1:])]
        line = text.count("\n", 0, found.start()) + 1
        yield f"{line}: {found[0]!r} ({better})"


def count_any(source: str) -> int:
    """How often ``Any`` is part of the type of an argument or of a result."""
    functions = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    types = [
        argument.annotation
        for function in functions
        for argument in ast.walk(function.args)
        if isinstance(argument, ast.arg)
    ]
    types += [function.returns for function in functions]
    names = [node for one in types if one is not None for node in ast.walk(one)]
    return sum(isinstance(node, ast.Name) and node.id == "Any" for node in names)


def test_no_import_cycles() -> None:
    """Type-only imports count."""
    modules = list(read_modules().values())
    known = {module.name for module in modules}
    graph = {m.name: {target for _, target, _ in m.imports(known)} for m in modules if not m.is_package}

    assert find_cycle(graph) == []


def test_sizes() -> None:
    """Packages have few modules, and modules few lines."""
    paths = [path for path in read_modules() if path.suffix == ".py"]
    packages = Counter(path.parent for path in paths if path.stem != "__init__")

    assert {str(package): count for package, count in packages.items() if count > MODULES} == {}
    assert {str(path): count for path in paths if (count := len((ROOT / path).read_text().splitlines())) > LINES} == {}


def test_plain_words() -> None:
    """Sources and documentation do not use the phrases in ``PHRASES``."""
    files = {path for pattern in TEXTS for path in ROOT.glob(pattern)}
    found = [f"{path.relative_to(ROOT)}:{phrase}" for path in sorted(files) for phrase in phrases_in(path.read_text())]

    assert not found, "\n".join(found)


def test_few_missing_types() -> None:
    """``Any`` and ignored type errors do not become more."""
    sources = [(ROOT / path).read_text() for path in read_modules() if path.suffix == ".py"]

    assert sum(map(count_any, sources)) <= MOST_ANY
    assert sum(len(re.findall(r"# type: ignore", source)) for source in sources) <= MOST_IGNORES


def test_checkers_find_violations() -> None:
    """Each checker of this file finds a violation in a small example."""
    cycle = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}

    assert sorted(set(find_cycle(cycle))) == ["a", "b", "c"]
    assert list(phrases_in("x is None\nWherever it is none, begin anew; None if there is none")) == [
        "2: 'Wherever' (regardless of, any, all)",
        "2: 'is none' (is not a ..., is invalid)",
        "2: 'anew' (again)",
    ]
    assert count_any("def f(a: Any, *b: list[Any]) -> Any: ...\nx: Any = 1") == 3
