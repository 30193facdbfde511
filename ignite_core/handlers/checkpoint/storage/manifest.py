"""The manifest of a checkpoint: a small JSON file beside it, ``NAME.json``, with its digests, its step and its serial.

A manifest is read strictly, since it may have been damaged or forged. The only error that reading it raises is
CheckpointError, and any change is found: it contains a digest of itself, and only one spelling of it is valid.
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
    "LARGEST_SERIAL",
    "SUFFIX",
    "TEMPORARY",
    "FileDigest",
    "Manifest",
    "ManifestFile",
    "check_about",
    "check_name",
    "is_of_others",
    "manifest_path",
    "manifest_text",
    "open_file",
    "parse",
    "read",
    "temp_path",
]

#: Suffix of the file name of a manifest, after the name of its checkpoint.
SUFFIX = ".json"

#: Prefix of file names that exist only while a checkpoint is saved or removed.
TEMPORARY = ".ignite-"

#: Version of the format, and the keys of a manifest file.
_FORMAT, _KEYS = 1, {"ignite_core", "checkpoint", "previous", "sha256"}

#: The longest file name, in bytes; the largest manifest that is read, for some ten thousand files.
_NAME_BYTES, _MOST_BYTES = 255, 4 * 2**20

#: Seconds, some thousand years, which any calendar can show.
_LARGEST_TIME = 1e11

#: Bounds of numbers. A serial counts saves: one this large is forged, and no other could follow it.
_LARGEST, LARGEST_SERIAL = 2**63, 2**53


@dataclass(frozen=True, slots=True)
class FileDigest:
    """Size of a file in bytes, and its digest (:mod:`ignite_core.handlers.checkpoint.storage.hashing`)."""

    size: int
    digest: str


@dataclass(frozen=True)
class Manifest:
    """Describes a checkpoint.

    Attributes:
        name: Name of the file or folder.
        kind: ``"file"`` or ``"folder"``.
        files: Size and digest of each file, by its path within the folder; of a single file by its own name.
        serial: 1 + the largest in its folder when it was saved: orders checkpoints independently of the clock.
        saved_at: Time of the save in seconds since 1970; informative only.
        uuid: Unique to this save.
        about: What the saver has added, as JSON.
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
        """Iterations that the run had done."""
        return self.about.get("step")

    @property
    def score(self) -> float | None:
        """The score, if there is one."""
        return self.about.get("score")

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of python, torch and ignite_core that wrote it."""
        return self.about.get("versions") or {}


@dataclass(frozen=True)
class ManifestFile:
    """Content of a manifest file. While a checkpoint is replaced, the data may be those of either of two."""

    checkpoint: Manifest
    previous: Manifest | None = None


def check_name(name: str) -> None:
    """Check the file name of a checkpoint. Raises CheckpointError if it is not valid."""
    is_name = isinstance(name, str) and "\0" not in name
    try:
        size = len(os.fsencode(name)) if is_name else 0
    except UnicodeEncodeError:
        size = 0
    if not 0 < size <= _NAME_BYTES or "/" in name or name in (".", ".."):
        raise CheckpointError(f"a checkpoint must have a file name of 1 to {_NAME_BYTES} bytes, got {name!r}")
    if name.startswith(TEMPORARY) or name.endswith(SUFFIX):
        raise CheckpointError(
            f"the name of a checkpoint must not begin with {TEMPORARY!r} or end with {SUFFIX!r}, which are names of "
            f"temporary files and of manifests; got {name!r}"
        )


def check_about(about: object) -> None:
    """Check the types of the entries of ``Manifest.about`` that are known; others are allowed.

    Raises:
        ValueError: Naming the wrong entry.
    """
    if not isinstance(about, dict):
        raise ValueError(f"what is known of a checkpoint must be a mapping, got {type(about).__name__}")
    for name, (is_right, what) in _KNOWN.items():
        if about.get(name) is not None and not is_right(about[name]):
            raise ValueError(f"{name} must be {what}, got {about[name]!r:.50}")


def _is_score(value: object) -> bool:
    return (isinstance(value, float) and math.isfinite(value)) or (type(value) is int and abs(value) < _LARGEST)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


_KNOWN: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "step": (lambda value: type(value) is int and abs(value) < _LARGEST, "an integer of 64 bits"),
    "score": (_is_score, "a finite number"),
    "priority": (_is_score, "a finite number"),
    "world_size": (lambda value: _is_number(value) and value > 0, "a positive integer"),
    "objects": (lambda value: isinstance(value, list) and all(map(_is_text, value)), "a list of names"),
    "versions": (lambda value: isinstance(value, dict) and all(map(_is_text, value.values())), "a mapping of texts"),
    **dict.fromkeys(("basename", "score_name", "trainer"), (_is_text, "a text")),
}


def manifest_path(path: Path) -> Path:
    """Path of the manifest of the checkpoint at ``path``."""
    name = path.name + SUFFIX
    if len(os.fsencode(name)) > _NAME_BYTES:
        name = hashlib.sha256(os.fsencode(path.name)).hexdigest() + SUFFIX
    return path.with_name(name)


def temp_path(folder: Path, uuid: str, part: Literal["data", "json", "removed"]) -> Path:
    """Temporary path of a part of a save."""
    return folder / f"{TEMPORARY}{uuid}.{part}"


def manifest_text(file: ManifestFile) -> bytes:
    """The only valid spelling of a manifest file.

    Raises:
        TypeError: If what the saver has added is not JSON.
        ValueError: If a number is not finite.
    """
    content = {"ignite_core": _FORMAT, "checkpoint": asdict(file.checkpoint), "previous": None}
    if file.previous is not None:
        content["previous"] = asdict(file.previous)
    plain = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
    content["sha256"] = hashlib.sha256(plain.encode()).hexdigest()
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"


def open_file(path: Path, *, follow: bool = False) -> int:
    """Open a regular file for reading. Opening a named pipe does not block; symbolic links are refused by default.

    Raises:
        CheckpointError: If it is not a regular file, or cannot be read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise CheckpointError(f"{path}: must be a file, is something else")


def read(place: Path) -> ManifestFile | None:
    """Read a manifest file; None if it is JSON of another program.

    Raises:
        CheckpointError: If it cannot be read, is damaged, or describes another checkpoint.
    """
    text = _read_text(place)
    try:
        file = parse(text, place)
        named = {manifest.name for manifest in (file.checkpoint, file.previous) if manifest is not None}
        if {manifest_path(place.with_name(name)) for name in named} != {place}:
            raise CheckpointError(f"{place}: must describe the checkpoint it is named after, describes {sorted(named)}")
        return file
    except CheckpointError:
        is_ours = _is_ours(text)
        if is_ours or (is_ours is None and place.with_name(place.name.removesuffix(SUFFIX)).exists()):
            raise
        return None


def is_of_others(path: Path) -> bool:
    """Whether the manifest of the checkpoint at ``path`` would replace a file of another program."""
    place = manifest_path(path)
    try:
        return os.path.lexists(place) and _is_ours(_read_text(place)) is False
    except CheckpointError:
        return False


def _read_text(path: Path) -> bytes:
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


def _is_ours(text: bytes) -> bool | None:
    """Whether JSON was meant to be a manifest, however damaged; None if it is not JSON."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return isinstance(content, dict) and not _KEYS.isdisjoint(content)


def parse(text: bytes, path: Path) -> ManifestFile:
    """Parse the text of the manifest file at ``path``.

    Raises:
        CheckpointError: If it is invalid in any way.
    """
    try:
        content = json.loads(text.decode("ascii"))
        if not isinstance(content, dict) or content.keys() != _KEYS or content["ignite_core"] != _FORMAT:
            raise ValueError(f"its keys must be {sorted(_KEYS)}, the format {_FORMAT}")
        previous = content["previous"]
        file = ManifestFile(_manifest(content["checkpoint"]), None if previous is None else _manifest(previous))
        if manifest_text(file) != text:
            raise ValueError("it was changed since it was written")
    # a decimal number may be too large for a float, nesting too deep for the interpreter
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{path}: is no valid manifest of a checkpoint: {error}") from error
    return file


def _manifest(content: Any) -> Manifest:
    fields = {"name", "kind", "files", "serial", "saved_at", "uuid", "about"}
    if not isinstance(content, dict) or content.keys() != fields:
        raise ValueError(f"the keys of a checkpoint must be {sorted(fields)}")
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
        raise ValueError("the only file must have the name of the checkpoint")
    return Manifest(name, kind, {key: _file(key, value) for key, value in files.items()}, serial, saved_at, uuid, about)


def _file(name: str, content: Any) -> FileDigest:
    if "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
        raise ValueError(f"a file of a checkpoint must be within its folder, got {name!r}")
    if not isinstance(content, dict) or content.keys() != {"size", "digest"}:
        raise ValueError("the keys of a file must be size and digest")
    size, digest = content["size"], content["digest"]
    if not _is_number(size) or not isinstance(digest, str) or not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ValueError("size must be a number of bytes, digest 64 hexadecimal digits")
    return FileDigest(size, digest)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST
