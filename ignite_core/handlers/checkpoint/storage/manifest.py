"""What stands beside a checkpoint: its bytes, its step and its place among the others, as one small file.

A sidecar is read by strict rules, as anything may have happened to it: whatever is in it, the only error is
CheckpointError, and any change of it is found, for it holds a digest of itself and only one spelling of it is valid.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ignite_core.exceptions import CheckpointError

__all__ = [
    "KEYS",
    "LARGEST_SERIAL",
    "SUFFIX",
    "TEMPORARY",
    "FileDigest",
    "Manifest",
    "Sidecar",
    "check_about",
    "check_name",
    "open_file",
    "parse",
    "read_text",
    "sidecar_path",
    "sidecar_text",
    "temporary_path",
]

#: What the sidecar of a checkpoint is called, after the checkpoint's own name.
SUFFIX = ".json"

#: What names of files begin with that exist only while something is saved or removed.
TEMPORARY = ".ignite-"

#: Version of the format of sidecars, and the keys of one.
_FORMAT, KEYS = 1, {"ignite_core", "checkpoint", "previous", "sha256"}

#: File systems take no longer names.
_NAME_BYTES = 255

#: A larger sidecar is not read; the largest that is ever written names some ten thousand files.
_MOST_BYTES = 4 * 2**20

#: Seconds, some thousand years, which any calendar can show.
_LARGEST_TIME = 1e11

#: Numbers are smaller. A serial counts saves: one this large was not counted, and nothing could follow it.
_LARGEST, LARGEST_SERIAL = 2**63, 2**53


@dataclass(frozen=True, slots=True)
class FileDigest:
    """How many bytes a file has, and their digest (:mod:`ignite_core.handlers.checkpoint.storage.hashing`)."""

    size: int
    digest: str


@dataclass(frozen=True)
class Manifest:
    """What stands beside a checkpoint.

    Attributes:
        name: Of the file or folder.
        kind: Which of the two it is.
        files: Size and digest of each file, by its path within a folder; of a single file by its own name.
        serial: 1 + the largest in its folder when it was saved: tells which is newer, whatever the clock said.
        saved_at: Seconds since 1970, by the clock of who saved it; for people.
        uuid: Of this save; no other has it.
        about: What the saver knew, as JSON.

    Example:
        >>> manifest = Manifest("m.pt", "file", {"m.pt": FileDigest(3, "ab" * 32)}, 1, 0.0, "0", {"step": 7})
        >>> manifest.step, manifest.score
        (7, None)
    """

    name: str
    kind: Literal["file", "folder"]
    files: Mapping[str, FileDigest]
    serial: int
    saved_at: float
    uuid: str
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def step(self) -> int | None:
        """How far the run was, in whatever its saver counts."""
        return self.about.get("step")

    @property
    def score(self) -> float | None:
        """How good it was, if that was measured."""
        return self.about.get("score")

    @property
    def world_size(self) -> int:
        """How many processes took part in the run."""
        return self.about.get("world_size") or 1

    @property
    def versions(self) -> Mapping[str, str]:
        """Of what it was written with."""
        return self.about.get("versions") or {}


@dataclass(frozen=True)
class Sidecar:
    """What a sidecar holds: while a checkpoint is being replaced, either of two may be what stands beside it."""

    checkpoint: Manifest
    previous: Manifest | None = None


def check_name(name: str) -> None:
    """Make sure that a checkpoint may be called so.

    Raises:
        CheckpointError: If it may not.
    """
    is_name = isinstance(name, str) and "\0" not in name
    try:
        size = len(os.fsencode(name)) if is_name else 0
    except UnicodeEncodeError:
        size = 0
    if not 0 < size <= _NAME_BYTES or "/" in name or name in (".", ".."):
        raise CheckpointError(f"a checkpoint must have a file name of 1 to {_NAME_BYTES} bytes, got {name!r}")
    if name.startswith(TEMPORARY) or name.endswith(SUFFIX):
        raise CheckpointError(
            f"the name of a checkpoint must not begin with {TEMPORARY!r} or end with {SUFFIX!r}, which mean temporary "
            f"files and what stands beside a checkpoint; got {name!r}"
        )


def check_about(about: Any) -> None:
    """Make sure that what is known of a checkpoint is what it must be; there may be more that is known to others.

    Raises:
        ValueError: Naming what is wrong.
    """
    if not isinstance(about, dict):
        raise ValueError(f"what is known of a checkpoint must be a mapping, got {type(about).__name__}")
    for name, (is_right, what) in _KNOWN.items():
        if about.get(name) is not None and not is_right(about[name]):
            raise ValueError(f"{name} must be {what}, got {about[name]!r:.50}")


def _is_score(value: Any) -> bool:
    return (isinstance(value, float) and math.isfinite(value)) or (type(value) is int and abs(value) < _LARGEST)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


#: What is known of a checkpoint, and what it must be.
_KNOWN: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "step": (lambda value: type(value) is int and abs(value) < _LARGEST, "an integer of 64 bits"),
    "score": (_is_score, "a finite number"),
    "priority": (_is_score, "a finite number"),
    "world_size": (lambda value: _is_number(value) and value > 0, "a positive integer"),
    "objects": (lambda value: isinstance(value, list) and all(map(_is_text, value)), "a list of names"),
    "versions": (lambda value: isinstance(value, dict) and all(map(_is_text, value.values())), "a mapping of texts"),
    **dict.fromkeys(("basename", "score_name", "trainer"), (_is_text, "a text")),
}


def sidecar_path(path: Path) -> Path:
    """Where the manifest of the checkpoint at ``path`` stands.

    Example:
        >>> sidecar_path(Path("runs/model_3.pt")).as_posix()
        'runs/model_3.pt.json'
    """
    name = path.name + SUFFIX
    if len(os.fsencode(name)) > _NAME_BYTES:
        name = hashlib.sha256(os.fsencode(path.name)).hexdigest() + SUFFIX
    return path.with_name(name)


def temporary_path(folder: Path, uuid: str, part: Literal["data", "json", "removed"]) -> Path:
    """Where a part of a save is while it is not yet, or no longer, what it is to be."""
    return folder / f"{TEMPORARY}{uuid}.{part}"


def sidecar_text(sidecar: Sidecar) -> bytes:
    """The only spelling of a sidecar that is valid.

    Raises:
        TypeError: If what the saver told is no JSON.
        ValueError: If a number in it is not finite.
    """
    content = {"ignite_core": _FORMAT, "checkpoint": asdict(sidecar.checkpoint), "previous": None}
    if sidecar.previous is not None:
        content["previous"] = asdict(sidecar.previous)
    plain = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
    content["sha256"] = hashlib.sha256(plain.encode()).hexdigest()
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"


def open_file(path: Path, *, follow: bool = False) -> int:
    """Open a file for reading: no named pipe, which would make one wait, and unless told so no symbolic link.

    Raises:
        CheckpointError: If it is no file, or cannot be read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise CheckpointError(f"{path}: must be a file, is something else")


def read_text(path: Path) -> bytes:
    """All that is in a sidecar.

    Raises:
        CheckpointError: If it cannot be read, or is too large to be one.
    """
    fd = open_file(path)
    try:
        size = os.fstat(fd).st_size
        if size > _MOST_BYTES:
            raise CheckpointError(f"{path}: must have at most {_MOST_BYTES} bytes, has {size}")
        with os.fdopen(fd, "rb", closefd=False) as file:
            return file.read(_MOST_BYTES)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
    finally:
        os.close(fd)


def parse(text: bytes, path: Path) -> Sidecar:
    """Understand what was read from the sidecar at ``path``.

    Raises:
        CheckpointError: Whatever is wrong with it.
    """
    try:
        content = json.loads(text.decode("ascii"))
        if not isinstance(content, dict) or content.keys() != KEYS or content["ignite_core"] != _FORMAT:
            raise ValueError(f"its keys must be {sorted(KEYS)}, the format {_FORMAT}")
        previous = content["previous"]
        sidecar = Sidecar(_manifest(content["checkpoint"]), None if previous is None else _manifest(previous))
        if sidecar_text(sidecar) != text:
            raise ValueError("it was changed since it was written")
    # a decimal number may be too large for a float, nesting too deep for the interpreter
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{path}: is no valid manifest of a checkpoint: {error}") from error
    return sidecar


def _manifest(content: Any) -> Manifest:
    fields = {"name", "kind", "files", "serial", "saved_at", "uuid", "about"}
    if not isinstance(content, dict) or content.keys() != fields:
        raise ValueError(f"a checkpoint must be told of by {sorted(fields)}")
    name, kind, files = content["name"], content["kind"], content["files"]
    serial, saved_at, uuid, about = (content[key] for key in ("serial", "saved_at", "uuid", "about"))
    if not isinstance(name, str) or kind not in ("file", "folder") or not isinstance(files, dict):
        raise ValueError("name must be a string, kind 'file' or 'folder', files a mapping")
    if not _is_number(serial) or not 1 <= serial < LARGEST_SERIAL:
        raise ValueError(f"serial must be a positive integer below {LARGEST_SERIAL}, got {serial!r:.50}")
    if not isinstance(saved_at, float) or not 0 <= saved_at < _LARGEST_TIME:
        raise ValueError("saved_at must be seconds since 1970, as a float")
    check_about(about)
    if not isinstance(uuid, str) or not re.fullmatch(r"[0-9a-f-]{1,64}", uuid):
        raise ValueError("uuid must be made of hexadecimal digits")
    try:
        check_name(name)
    except CheckpointError as error:
        raise ValueError(str(error)) from error
    if kind == "file" and files.keys() != {name}:
        raise ValueError("a file must be told of by its own name")
    return Manifest(name, kind, {key: _file(key, value) for key, value in files.items()}, serial, saved_at, uuid, about)


def _file(name: str, content: Any) -> FileDigest:
    """Checks the path too: it must not lead out of the folder."""
    if "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
        raise ValueError(f"a file of a checkpoint must be within its folder, got {name!r}")
    if not isinstance(content, dict) or content.keys() != {"size", "digest"}:
        raise ValueError("a file must be told of by size and digest")
    size, digest = content["size"], content["digest"]
    if not _is_number(size) or not isinstance(digest, str) or not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ValueError("size must be a number of bytes, digest 64 hexadecimal digits")
    return FileDigest(size, digest)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST
