"""What stands beside a checkpoint is read by strict rules: any change of it is found, whatever is in it (R6, R28)."""

from __future__ import annotations

import hashlib
import json
import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ignite_core.exceptions import CheckpointError
from ignite_core.handlers.checkpoint.storage.commit import publish, publish_folder
from ignite_core.handlers.checkpoint.storage.manifest import (
    FileDigest,
    Manifest,
    ManifestFile,
    manifest_path,
    manifest_text,
    parse,
    temp_path,
)
from ignite_core.handlers.checkpoint.storage.scan import scan
from tests.faults.sizes import sized
from tests.handlers.checkpoint import malicious
from tests.handlers.checkpoint.comparing import manifests, read_manifest
from tests.handlers.checkpoint.newest import load_newest

PATH = Path("folder/run.pt.json")
FIRST = Manifest(
    "run.pt", "file", {"run.pt": FileDigest(7, "ab" * 32)}, 3, 1.5e9, "12345678-0123", {"step": 7, "a": [1]}
)
PARTS = {"a/b": FileDigest(7, "ab" * 32), ".metadata": FileDigest(0, "00" * 32)}
SECOND = Manifest("run", "folder", PARTS, 4, 0.0, "0", {"score": -0.5, "versions": {"torch": "2"}, "ü": "\udc80"})


@pytest.mark.parametrize("sidecar", [ManifestFile(FIRST), ManifestFile(SECOND), ManifestFile(FIRST, FIRST)])
def test_what_was_written_is_read(sidecar: ManifestFile) -> None:
    assert parse(manifest_text(sidecar), PATH) == sidecar


def test_every_single_bit_counts() -> None:
    text = manifest_text(ManifestFile(FIRST))
    for place in range(8 * len(text)):
        changed = bytearray(text)
        changed[place // 8] ^= 1 << place % 8
        with pytest.raises(CheckpointError):
            parse(bytes(changed), PATH)


@pytest.mark.parametrize("length", range(0, len(manifest_text(ManifestFile(FIRST))), 7))
def test_every_byte_counts_at_the_end(length: int) -> None:
    with pytest.raises(CheckpointError):
        parse(manifest_text(ManifestFile(FIRST))[:length], PATH)


def resigned(**changes: object) -> bytes:
    """As someone writes it who knows the format."""
    content = json.loads(manifest_text(ManifestFile(FIRST)))
    del content["sha256"]
    content["checkpoint"] |= changes
    plain = json.dumps(content, indent=1, sort_keys=True)
    content["sha256"] = hashlib.sha256(plain.encode()).hexdigest()
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


@pytest.mark.parametrize(
    "changes",
    [
        {"serial": 0},
        {"serial": True},
        {"serial": 1.0},
        {"serial": 2**63},
        {"serial": 10**4000},
        {"saved_at": "now"},
        {"saved_at": float("nan")},
        {"saved_at": float("inf")},
        {"kind": "pipe"},
        {"name": "../run.pt"},
        {"name": "/run.pt"},
        {"name": ".."},
        {"name": ""},
        {"name": "a" * 256},
        {"name": "run.pt\0"},
        {"name": "run.json"},
        {"name": 3},
        {"uuid": "../../etc"},
        {"uuid": ""},
        {"about": []},
        {"about": {"score": float("nan")}},
        {"files": {}},
        {"files": {"other.pt": {"size": 7, "digest": "ab" * 32}}},
        {"files": {"run.pt": {"size": -1, "digest": "ab" * 32}}},
        {"files": {"run.pt": {"size": 7, "digest": "AB" * 32}}},
        {"files": {"run.pt": {"size": 7, "digest": "ab" * 32, "more": 1}}},
        {"files": {"run.pt": [7, "ab" * 32]}},
        {"kind": "folder", "files": {"../run.pt": {"size": 7, "digest": "ab" * 32}}},
        {"kind": "folder", "files": {"/etc/passwd": {"size": 7, "digest": "ab" * 32}}},
        {"kind": "folder", "files": {"a//b": {"size": 7, "digest": "ab" * 32}}},
        {"kind": "folder", "files": {"a/./b": {"size": 7, "digest": "ab" * 32}}},
        {"kind": "folder", "files": {"a\0": {"size": 7, "digest": "ab" * 32}}},
        {"more": 1},
    ],
    ids=str,
)
def test_what_breaks_a_rule_is_refused_though_it_is_signed(changes: dict[str, object]) -> None:
    assert parse(resigned(serial=4), PATH).checkpoint.serial == 4
    with pytest.raises(CheckpointError, match=r"run.pt.json: is no valid manifest of a checkpoint: "):
        parse(resigned(**changes), PATH)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"3",
        b"[" * 10**6,
        b'{"a":' * 10**5,
        b"9" * 10**6,
        b"1e999",
        b'"\xff"',
        b"\0" * 4096,
        b'{"ignite_core": 1}',
        b'{"ignite_core": 2, "checkpoint": {}, "previous": null, "sha256": ""}',
        manifest_text(ManifestFile(FIRST)).replace(b'"serial": 3', b'"serial": 2,\n  "serial": 3'),
        manifest_text(ManifestFile(FIRST)).replace(b"\n", b"\r\n"),
        manifest_text(ManifestFile(FIRST)) + b"\n",
        b"\xef\xbb\xbf" + manifest_text(ManifestFile(FIRST)),
    ],
    ids=lambda text: repr(text[:30]),
)
def test_no_bytes_at_all_raise_anything_else(text: bytes) -> None:
    with pytest.raises(CheckpointError):
        parse(text, PATH)


@given(data=st.data())
@settings(max_examples=sized(150, 20_000), deadline=None)
def test_random_changes_are_found(data: st.DataObject) -> None:
    """R28, in small."""
    text = manifest_text(ManifestFile(FIRST, FIRST))
    at, length = data.draw(st.integers(0, len(text))), data.draw(st.integers(0, 20))
    piece = data.draw(
        st.binary(max_size=20) | st.sampled_from([b"{", b"}", b"NaN", b"null", b'"', b"1e400", b"\\u0000"])
    )
    changed = text[:at] + piece + text[at + length :]
    if changed != text:
        with pytest.raises(CheckpointError):
            parse(changed, PATH)


# in a folder


def save(path: Path, step: int = 1) -> None:
    publish(path, lambda file: file.write(b"weights"), {"step": step})


def test_the_newest_comes_first_and_a_prefix_chooses(tmp_path: Path) -> None:
    for step, name in enumerate(["best_1", "last_1", "best_2", "last_2"]):
        save(tmp_path / name, step)

    assert [manifest.name for manifest in manifests(tmp_path)] == ["last_2", "best_2", "last_1", "best_1"]
    assert [manifest.name for manifest in manifests(tmp_path, "best")] == ["best_2", "best_1"]
    assert manifests(tmp_path, "worst") == []


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="missing: the folder cannot be read"):
        manifests(tmp_path / "missing")


def test_what_is_damaged_is_left_out(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path / f"run_{step}", step)
    (tmp_path / "run_2.json").write_bytes(b"")
    (tmp_path / "run_3").unlink()
    found = scan(tmp_path)

    assert [manifest.name for manifest in found.manifests] == ["run_1"]
    assert "run_3: is missing" in found.damaged["run_3"].reason
    assert "run_2.json: is no valid manifest" in found.damaged["run_2"].reason


def test_a_checkpoint_whose_deletion_was_cut_short_is_no_reason_for_a_warning(tmp_path: Path) -> None:
    for step in (1, 2):
        save(tmp_path / f"run_{step}", step)
    (tmp_path / "run_1").unlink()

    assert [manifest.step for manifest in manifests(tmp_path)] == [2]


def test_a_save_under_way_is_not_listed_and_no_damage(tmp_path: Path) -> None:
    save(tmp_path / "run_1")
    manifest = read_manifest(tmp_path / "run_1")
    os.replace(tmp_path / "run_1", temp_path(tmp_path, manifest.uuid, "data"))

    assert manifests(tmp_path) == []
    assert list(scan(tmp_path).unfinished) == [tmp_path / "run_1.json"]


def test_json_of_others_is_not_looked_at(tmp_path: Path) -> None:
    for name, text in {
        "config.json": '{"lr": 1}',
        "list.json": "[1]",
        "broken.json": "{",
        "run.json": '{"a": 1}',
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "run").write_bytes(b"weights")

    assert manifests(tmp_path) == []


def test_the_manifest_of_another_checkpoint_is_refused(tmp_path: Path) -> None:
    """R7: a copied or renamed file is not taken for what it is not."""
    save(tmp_path / "run_1")
    save(tmp_path / "run_2")
    os.replace(tmp_path / "run_2.json", tmp_path / "run_1.json")

    with pytest.raises(CheckpointError, match=r"must describe the checkpoint it is named after, .*run_2"):
        read_manifest(tmp_path / "run_1")


@pytest.mark.parametrize("make", ["link", "pipe", "folder", "large"])
def test_a_manifest_that_is_no_small_file_is_refused_at_once(make: str, tmp_path: Path) -> None:
    save(tmp_path / "run")
    place = manifest_path(tmp_path / "run")
    os.replace(place, tmp_path / "real")
    if make == "link":
        place.symlink_to(tmp_path / "real")
    elif make == "pipe":
        os.mkfifo(place)
    elif make == "folder":
        place.mkdir()
    else:
        place.touch()
        os.truncate(place, 10**12)

    with pytest.raises(CheckpointError, match=r"run.json: "):
        read_manifest(tmp_path / "run")


def test_a_name_too_long_for_the_suffix_has_a_manifest_under_a_hash(tmp_path: Path) -> None:
    names = ["a" * 250, "a" * 251, "a" * 251 + "b"]

    assert len({manifest_path(tmp_path / name) for name in names}) == 3
    assert all(len(os.fsencode(manifest_path(tmp_path / name).name)) <= 255 for name in names)


# R6: damage at random places, each file of the newest checkpoint


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_damage_anywhere_is_found_and_the_one_before_is_read(kind: str, tmp_path: Path) -> None:
    """R6: a bit turned, a page of zeros, an end cut off, nothing left, at random places."""
    content = random.Random(1).randbytes(60_000)

    def fill(place: Path) -> None:
        (place / "part").write_bytes(content)
        (place / "whole").write_bytes(content)

    for step in (1, 2):
        if kind == "folder":
            publish_folder(tmp_path / f"run_{step}", fill, {"step": step})
        else:
            publish(tmp_path / f"run_{step}", lambda file: file.write(malicious.saved(content)), {"step": step})
    damaged = [tmp_path / "run_2.json", *([tmp_path / "run_2"] if kind == "file" else (tmp_path / "run_2").iterdir())]
    draw = random.Random(0)
    for number in range(sized(20, 500)):
        for path in damaged:
            original = path.read_bytes()
            path.write_bytes(_damage(original, number, draw))
            with pytest.warns(
                UserWarning, match=r"run_1 is loaded, as a newer checkpoint cannot be: .*run_2"
            ) as caught:
                read, manifest = load_newest(tmp_path, read=lambda place, manifest: manifest.step)
            assert (read, manifest.step, len(caught)) == (1, 1, 1)
            path.write_bytes(original)
    assert load_newest(tmp_path, read=lambda place, manifest: manifest.step)[0] == 2


def _damage(text: bytes, number: int, draw: random.Random) -> bytes:
    at = draw.randrange(len(text))
    if number % 4 == 0:
        return text[:at]
    if number % 4 == 1:
        end = min(at + 4096, len(text))
        return text[:at] + (bytes(end - at) if any(text[at:end]) else b"\1") + text[end:]
    if number == 2:
        return b""
    return text[:at] + bytes([text[at] ^ 1 << draw.randrange(8)]) + text[at + 1 :]
