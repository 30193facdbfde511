"""The wheel holds the two packages, whole, and asks for torch alone."""

import subprocess
import sys
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out], cwd=ROOT, check=True)
    (path,) = out.iterdir()
    with ZipFile(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def metadata(wheel: ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return message_from_bytes(wheel.read(name))


def files(package: Path) -> set[str]:
    """The files of a package as the wheel names them."""
    found = (path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(package.parent).as_posix() for path in found}


def test_contents_of_the_wheel(wheel: ZipFile) -> None:
    """The wheel contains the two packages.

    Nothing beside them, and nothing of them left out by a pattern in .gitignore.
    """
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}

    assert packed == files(ROOT / "ignite_core") | files(ROOT / "contrib" / "ignite_contrib")
    assert {"ignite_core/py.typed", "ignite_contrib/py.typed"} <= packed


def test_only_torch_is_required(metadata: Message) -> None:
    """Without extras."""
    required = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]

    assert required == ["torch>=2.9"]


def test_version(metadata: Message) -> None:
    """The metadata has the version of the package."""
    import ignite_core

    assert metadata["Version"] == ignite_core.__version__
