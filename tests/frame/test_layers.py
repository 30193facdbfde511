"""Imports go one way: the table below says which, and every import statement of both packages keeps to it."""

import ast
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("ignite_core", "ignite_contrib")

# The first row that fits a module counts. Names are those within ignite_core; `!` takes back, `( )` is for types only.
# Two rules hold beside the table: a package (its __init__.py) re-exports what is in it and nothing else, with the help
# of `_lazy`, and no module imports a package that it is in, which would be a circle.
CORE = "exceptions rng tensors threads distributed distributed.* engine engine.* metrics metrics.*"
API_OF_ENGINE = "!engine.engine !engine.deterministic !engine.supervised.*"
ENGINE = "exceptions rng distributed distributed.*"
TABLE = [
    # module                                                      may import, of ours
    (
        "_lazy exceptions tensors threads engine.data.epochs engine.supervised.gradients engine.supervised.options",
        "",
    ),
    ("rng", "exceptions"),
    ("distributed.*", "exceptions threads distributed.*"),
    ("testing.*", f"{CORE} handlers handlers.*"),
    ("checkpoint", f"{CORE} handlers handlers.*"),
    ("debug.plan.calendar", ""),
    ("debug.plan.*", f"{CORE} handlers.* snapshot debug.*"),
    ("debug.*", f"{CORE} handlers handlers.* snapshot"),
    ("engine.events engine.state", ""),
    ("engine.state_dict", "exceptions rng engine.events engine.state"),
    ("engine.describe", "engine.events"),
    ("engine.data.position", "engine.events engine.state engine.state_dict engine.data.epochs"),
    ("engine.data.seeded_loader engine.data.passes", "rng distributed distributed.* engine.data.*"),
    ("engine.run_arguments", "engine.state engine.describe engine.data.position"),
    ("engine.registration", "engine.events engine.describe"),
    ("engine.channel", "engine.events engine.state engine.describe engine.registration"),
    ("engine.dispatch", "engine.events engine.state engine.describe engine.registration engine.channel"),
    ("engine.lone_handlers", f"{ENGINE} engine.registration"),
    ("engine.run", f"{ENGINE} engine.* !engine.lone_handlers !engine.loop {API_OF_ENGINE}"),
    ("engine.loop", f"{ENGINE} engine.* {API_OF_ENGINE}"),
    ("engine.data.reproducibility", f"{ENGINE} engine.data.* engine.state engine.state_dict"),
    (
        "engine.engine",
        f"{ENGINE} engine.* !engine.data.* !engine.deterministic !engine.supervised.* (debug.plan.calendar)",
    ),
    ("engine.supervised.step", "engine.engine engine.events engine.supervised.gradients engine.supervised.options"),
    ("engine.deterministic engine.supervised.*", CORE),
    ("metrics.*", "exceptions distributed distributed.* engine.events metrics.* (engine.engine) (engine.registration)"),
    ("snapshot", CORE),
    ("handlers.*", f"{CORE} handlers.* snapshot"),
    ("utils", f"{CORE} handlers handlers.*"),
    ("compat", f"{CORE} handlers handlers.* utils"),
    ("ignite_contrib.*", "ignite_core exceptions threads distributed engine metrics handlers utils ignite_contrib.*"),
]


@dataclass(frozen=True)
class Module:
    name: str
    source: str
    is_package: bool = False

    def imports(self, known: Collection[str]) -> Iterator[tuple[int, str, bool]]:
        """Line, module, and whether for types only, of each import of ours; also of those inside functions."""
        tree = ast.parse(self.source)
        guarded = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
        for_types = {node for guard in guarded for statement in guard.body for node in ast.walk(statement)}
        package = self.name if self.is_package else self.name.rpartition(".")[0]
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                origin = resolve_name("." * node.level + (node.module or ""), package)
                names = [f"{origin}.{alias.name}" for alias in node.names]
                targets = [name if name in known else origin for name in names]  # a submodule, or a name in a module
            else:
                continue
            yield from ((node.lineno, name, node in for_types) for name in targets if name.partition(".")[0] in OURS)

    def may_import(self, target: str, for_types: bool) -> bool:
        if self.is_package:
            return target.startswith(f"{self.name}.") or target in ("ignite_core._lazy", "ignite_contrib._require")
        patterns = next((allowed.split() for who, allowed in TABLE if matches(self.name, who.split())), [])
        taken_back = [pattern[1:] for pattern in patterns if pattern[0] == "!"]
        if for_types:
            patterns = [pattern.strip("()") for pattern in patterns]
        is_circle = self.name.startswith(f"{target}.")
        return matches(target, patterns) and not matches(target, taken_back) and not is_circle

    def violations(self, known: Collection[str]) -> list[str]:
        """``line: module imported`` of each import that breaks a rule."""
        found = self.imports(known)
        return [f"{line}: {target}" for line, target, for_types in found if not self.may_import(target, for_types)]


def matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(name.removeprefix("ignite_core."), pattern) for pattern in patterns)


def read_modules() -> dict[Path, Module]:
    modules = {}
    for package in (ROOT / "ignite_core", ROOT / "contrib" / "ignite_contrib"):
        for path in sorted(package.rglob("*.py*")):
            if path.suffix not in (".py", ".pyi"):
                continue
            parts = path.relative_to(package.parent).with_suffix("").parts
            name = ".".join(parts).removesuffix(".__init__")
            modules[path.relative_to(ROOT)] = Module(name, path.read_text(encoding="utf-8"), path.stem == "__init__")
    return modules


def test_every_import_goes_the_right_way() -> None:
    modules = read_modules()
    known = {module.name for module in modules.values()}
    found = [f"{path}:{broken}" for path, module in modules.items() for broken in module.violations(known)]

    assert not found, "\n".join(["imports that TABLE does not allow:", *found])


KNOWN = {"ignite_core.distributed", "ignite_core.metrics"}


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        ("metrics.accuracy", "import ignite_core.engine", ["1: ignite_core.engine"]),
        ("metrics.accuracy", "from ignite_core.engine.engine import Engine", ["1: ignite_core.engine.engine"]),
        ("metrics.accuracy", "from ignite_core.engine import dispatch", ["1: ignite_core.engine"]),
        ("metrics.accuracy", "from ignite_core.metrics import Metric", ["1: ignite_core.metrics"]),
        ("metrics.nlp.bleu", "from ..core.metric import Metric\nimport torch", []),
        ("metrics.accuracy", "from ignite_core import distributed as idist", []),
        ("engine.state", "def f():\n    from .events import Events", ["2: ignite_core.engine.events"]),
        ("engine.data.position", "from ..dispatch import Calls", ["1: ignite_core.engine.dispatch"]),
        ("engine.dispatch", "from .engine import Engine", ["1: ignite_core.engine.engine"]),
        ("engine.dispatch", "if TYPE_CHECKING:\n    from .engine import Engine", ["2: ignite_core.engine.engine"]),
        ("engine.dispatch", "if TYPE_CHECKING:\n    import ignite_core.metrics", ["2: ignite_core.metrics"]),
        ("engine.engine", "from .dispatch import Calls", []),
        ("engine.engine", "from .supervised.factories import x", ["1: ignite_core.engine.supervised.factories"]),
        ("engine.without_a_row", "from .events import Events", ["1: ignite_core.engine.events"]),
        ("handlers.ema", "import torch, ignite_contrib.mlflow", ["1: ignite_contrib.mlflow"]),
    ],
)
def test_the_checker_sees_what_is_planted(name: str, source: str, expected: list[str]) -> None:
    assert Module(f"ignite_core.{name}", source).violations(KNOWN) == expected


def test_checker_contrib_uses_public_packages() -> None:
    source = "from ignite_core.engine import Engine\nfrom ignite_core.engine.state import State"

    assert Module("ignite_contrib.mlflow", source).violations(KNOWN) == ["2: ignite_core.engine.state"]


def test_checker_re_exports() -> None:
    """A package may re-export only its own modules."""
    source = "from .core.usage import attach\nfrom ignite_core.engine import Engine"

    assert Module("ignite_core.metrics", source, is_package=True).violations(KNOWN) == ["2: ignite_core.engine"]
