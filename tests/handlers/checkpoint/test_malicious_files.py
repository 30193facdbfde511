"""A file made to do harm is refused before torch sees it: nothing runs, and little memory is taken (R27)."""

from __future__ import annotations

import contextlib
import tempfile
import time
import tracemalloc
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ignite_core.exceptions import CheckpointError
from ignite_core.handlers.checkpoint.storage import safety
from ignite_core.handlers.checkpoint.storage.commit import publish_folder
from ignite_core.handlers.checkpoint.storage.load import load, verify_checkpoint
from ignite_core.handlers.checkpoint.storage.safety import check
from tests.faults.sizes import sized
from tests.handlers.checkpoint import malicious

#: Those that torch loads as what they say, and that take little.
HARMLESS = {"another size in the header"}


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What files that run code create."""
    return tmp_path_factory.mktemp("malicious") / "canary"


@pytest.fixture(scope="module")
def files(canary: Path) -> dict[str, bytes]:
    return malicious.files(canary)


@pytest.mark.parametrize("name", malicious.FILES)
def test_a_file_made_to_do_harm_does_none(
    name: str, files: dict[str, bytes], canary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, path = files[name], tmp_path / "run.pt"
    path.write_bytes(data)
    monkeypatch.setattr(safety, "_MOST_BYTES", malicious.FREE_BYTES)
    begin = time.process_time()
    tracemalloc.start()
    with nullcontext() if name in HARMLESS else pytest.raises(CheckpointError) as caught:
        load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert time.process_time() - begin < 10  # tracemalloc takes most of it
    assert peak <= 3 * len(data) + 3 * malicious.FREE_BYTES + 2**22
    assert not canary.exists()
    if caught is not None:
        assert str(caught.value).startswith(f"{path}: ")
        assert len(str(caught.value)) < 1000 + len(str(path))


def test_there_are_at_least_fifty_of_them() -> None:
    assert len(malicious.FILES) >= 50


def test_the_reasons_are_the_right_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file may be refused for a mistake of the test; these are the places where each kind must be found."""
    files = malicious.files(tmp_path / "canary")
    monkeypatch.setattr(safety, "_MOST_BYTES", malicious.FREE_BYTES)

    def refusal(name: str) -> str:
        (tmp_path / "run.pt").write_bytes(files[name])
        with pytest.raises(CheckpointError) as caught:
            load(tmp_path / "run.pt")
        return str(caught.value).removeprefix(f"{tmp_path / 'run.pt'}: ")

    assert refusal("an inner part").startswith("holds os.system, which is not loaded, as it may run code")
    assert refusal("torch.Tensor(2**31)") == "calls torch.Tensor, which is no function that builds a value"
    assert refusal("a storage larger than its record") == (
        "says that the record data/0 has 4398046511104 bytes, but it has 16"
    )
    assert refusal("one number 2**40 times").startswith("has tensors far larger than their bytes")
    assert refusal("views without end of four numbers").startswith("would take far more memory than it has bytes")
    assert refusal("marks upon marks").startswith("would take far more memory than it has bytes")
    assert refusal("ints that collide").startswith("holds an integer of more than 64 bits")
    assert refusal("numbers that collide").startswith("has keys that collide")
    assert refusal("tuples that collide in a set").startswith("has keys that collide")
    assert refusal("laughing dicts").startswith("has values within values without end")
    assert refusal("a key that takes a year to hash").startswith("has values within values without end")
    assert refusal("laughing lists, from the outside").startswith("has values within values without end")
    assert refusal("records that overlap") == "has records that overlap, or go beyond its end"
    assert refusal("deflated").startswith("has a record that is compressed")
    assert refusal("a legacy file").startswith("is no file as torch.save writes them since torch 1.6; if you trust")


@pytest.mark.parametrize("name", ["laughing lists", "a storage smaller than its record", "one number 2**40 times"])
def test_torch_alone_would_have_loaded_some(name: str, tmp_path: Path) -> None:
    """Else there would be nothing to guard against."""
    path = tmp_path / "run.pt"
    path.write_bytes(malicious.files(tmp_path / "canary")[name])

    torch.load(path, weights_only=True, mmap=True)


def test_torch_itself_keeps_tensors_within_their_bytes(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    path.write_bytes(malicious.files(tmp_path / "canary")["a tensor larger than its storage"])

    with pytest.raises(RuntimeError, match=r"out of bounds|not resizable"):
        torch.load(path, weights_only=True, mmap=True)


class Point:
    """Of the user."""

    def __init__(self, x: int) -> None:
        self.x = x


def test_what_the_user_has_declared_safe_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    path.write_bytes(malicious.saved({"point": Point(3), "loss": torch.ones(2)}))
    with pytest.raises(CheckpointError, match=r"holds tests.handlers.checkpoint.test_malicious_files.Point, which"):
        load(path)
    with torch.serialization.safe_globals([Point]):
        assert load(path)["point"].x == 3


def test_what_torch_itself_has_declared_safe_is_not(tmp_path: Path) -> None:
    """Such as distributed tensors, once they are imported."""
    from torch.distributed.tensor import Shard

    path = tmp_path / "run.pt"
    path.write_bytes(malicious.saved({"placement": Shard(0)}))

    with pytest.raises(CheckpointError, match=r"holds torch.distributed.tensor.placement_types.Shard"):
        load(path)


def test_a_folder_with_a_link_that_leads_out_of_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"weights")
    publish_folder(tmp_path / "run", lambda place: (place / "part").write_bytes(b"weights"))
    (tmp_path / "run" / "part").unlink()
    (tmp_path / "run" / "part").symlink_to(tmp_path / "secret")

    with pytest.raises(CheckpointError, match="run/part: cannot be read"):
        verify_checkpoint(tmp_path / "run")


@given(data=st.data())
@settings(max_examples=sized(150, 5_000), deadline=None)
def test_any_bytes_are_refused_or_loaded_as_what_they_are(data: st.DataObject) -> None:
    """R28, in small: parts of the archive are changed at random; nothing but CheckpointError comes out."""
    original = malicious.GOOD if data.draw(st.booleans()) else malicious.SMALL
    changed = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(changed) - 1))
        piece = data.draw(st.binary(max_size=9) | st.sampled_from([b"PK\1\2", b"PK\3\4", b"\xff" * 4, b"\0" * 8]))
        changed[at : at + data.draw(st.integers(0, 9))] = piece
    with tempfile.NamedTemporaryFile() as file:
        file.write(changed)
        file.flush()
        with contextlib.suppress(CheckpointError):
            load(file.name)


@given(pickled=st.lists(st.sampled_from(malicious.PIECES), max_size=40).map(b"".join))
@settings(max_examples=sized(150, 5_000), deadline=None)
def test_any_program_is_refused_or_loaded(pickled: bytes) -> None:
    """R28, in small: operations put together at random; what passes the check, torch loads."""
    with tempfile.TemporaryFile() as file:
        file.write(malicious.archive(malicious.program(pickled), {"data/0": bytes(16)}))
        file.flush()
        try:
            check(file.fileno())
        except CheckpointError:
            return
        file.seek(0)
        torch.load(file, weights_only=True)
