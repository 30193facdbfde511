"""What stands beside a checkpoint: its bytes, its step and its place among the others, as one small file.

A sidecar is read by strict rules, as anything may have happened to it: whatever is in it, the only error is
CheckpointError, and any change of it is found, for it holds a digest of itself and only one spelling of it is valid.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ignite_core.exceptions import CheckpointError

__all__ = [
    "KEYS",
    "SUFFIX",
    "TEMPORARY",
    "FileDigest",
    "Manifest",
    "Sidecar",
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

_LARGEST = 2**63


@dataclass(frozen=True, slots=True)
class FileDigest:
    """How many bytes a file has, and their digest (:mod:`ignite_core.handlers.checkpoint.digests`)."""

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
        step = self.about.get("step")
        return step if isinstance(step, int) and not isinstance(step, bool) else None

    @property
    def score(self) -> float | None:
        """How good it was, if that was measured."""
        score = self.about.get("score")
        return score if isinstance(score, int | float) and not isinstance(score, bool) else None

    @property
    def world_size(self) -> int:
        """How many processes took part in the run."""
        world_size = self.about.get("world_size")
        return world_size if isinstance(world_size, int) else 1

    @property
    def versions(self) -> Mapping[str, str]:
        """Of what it was written with."""
        versions = self.about.get("versions")
        return versions if isinstance(versions, dict) else {}


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
    size = len(os.fsencode(name)) if "\0" not in name else 0
    if not 0 < size <= _NAME_BYTES or "/" in name or name in (".", ".."):
        raise CheckpointError(f"a checkpoint must have a file name of 1 to {_NAME_BYTES} bytes, got {name!r}")
    if name.startswith(TEMPORARY) or name.endswith(SUFFIX):
        raise CheckpointError(
            f"the name of a checkpoint must not begin with {TEMPORARY!r} or end with {SUFFIX!r}, which mean temporary "
            f"files and what stands beside a checkpoint; got {name!r}"
        )


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
    if not _is_number(serial) or serial < 1:
        raise ValueError("serial must be a positive integer")
    if not isinstance(saved_at, float) or not isinstance(about, dict):
        raise ValueError("saved_at must be a float, about a mapping")
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
