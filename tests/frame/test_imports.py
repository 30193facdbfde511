"""What importing the core loads: with nothing but torch installed, and with everything installed."""

import json
import subprocess
import sys
from typing import Any

import pytest

import ignite_core

# `import ignite_core` loads the package itself; one or two private helpers would be no harm, a subpackage would.
MOST_MODULES_AT_IMPORT = 3

IMPORT_ALL = """
import importlib, pkgutil, sys

def import_all():
    import ignite_core
    for module in pkgutil.walk_packages(ignite_core.__path__, "ignite_core."):
        importlib.import_module(module.name)
"""

# What torch itself imports stands here by name: only then can everything else that is installed be refused.
BLOCK_OPTIONAL = """
ALLOWED = {"ignite_core", "torch", "torchgen", "functorch", *sys.stdlib_module_names} | {
    "cuda", "filelock", "fsspec", "jinja2", "markupsafe", "mpmath", "networkx", "nvidia", "setuptools", "sympy",
    "triton", "typing_extensions",
}

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in ALLOWED:
            raise ModuleNotFoundError(f"{name} is not installed (as this test has it)", name=name)

sys.meta_path.insert(0, Refuse())
"""


def in_a_fresh_python(code: str) -> Any:
    """Run ``code`` in a new interpreter; its last line of output, read as JSON."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def loaded() -> dict[str, list[str]]:
    """The modules that come on top of ``import torch``: by ``import ignite_core``, and by all that is in it."""
    return in_a_fresh_python(
        IMPORT_ALL
        + """
import json, torch

before = set(sys.modules)
import ignite_core
at_import = set(sys.modules) - before
import_all()
print(json.dumps({"at_import": sorted(at_import), "in_all": sorted(set(sys.modules) - before)}))
"""
    )


def test_core_imports_without_optional_packages() -> None:
    """Every module of the core, with every optional package refused."""
    missing = in_a_fresh_python(
        IMPORT_ALL
        + BLOCK_OPTIONAL
        + """
import json

import_all()
missing = []
for name in ["numpy", "sklearn", "matplotlib", "tqdm", "tensorboardX", "ignite", "lightning", "ignite_contrib"]:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        missing.append(name)
print(json.dumps(missing))
"""
    )

    assert missing == [
        "numpy",
        "sklearn",
        "matplotlib",
        "tqdm",
        "tensorboardX",
        "ignite",
        "lightning",
        "ignite_contrib",
    ]


def test_core_loads_no_optional_package(loaded: dict[str, list[str]]) -> None:
    """Not even if it is installed."""
    foreign = {name.partition(".")[0] for name in loaded["in_all"]} - sys.stdlib_module_names - {"ignite_core", "torch"}

    assert not foreign


def test_import_is_light(loaded: dict[str, list[str]]) -> None:
    """``import ignite_core`` loads few modules. Counted in modules, because seconds differ from machine to machine."""
    ours = [name for name in loaded["at_import"] if name.partition(".")[0] not in sys.stdlib_module_names]

    assert "ignite_core" in ours
    assert all(name.partition(".")[0] == "ignite_core" for name in ours), ours
    assert len(ours) <= MOST_MODULES_AT_IMPORT, ours


@pytest.mark.parametrize("name", ignite_core.__all__)
def test_public_names(name: str) -> None:
    """Every public name exists and is listed by ``dir``."""
    assert getattr(ignite_core, name) is not None
    assert name in dir(ignite_core)


def test_lazy_names() -> None:
    """A name loaded lazily is the same object as in its subpackage."""
    from ignite_core.engine import Engine

    assert ignite_core.Engine is Engine
    assert vars(ignite_core)["Engine"] is Engine, "the second access should not look it up again"


def test_unknown_name() -> None:
    """The error is the usual AttributeError."""
    with pytest.raises(AttributeError, match=r"^module 'ignite_core' has no attribute 'Engin'$"):
        _ = ignite_core.Engin


def test_imports_block_no_signal() -> None:
    blocked = in_a_fresh_python(
        IMPORT_ALL
        + "import_all()\nimport json, signal\nprint(json.dumps(list(signal.pthread_sigmask(signal.SIG_BLOCK, []))))"
    )

    assert blocked == []
