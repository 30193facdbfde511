"""Which checkpoints there are in a folder, and whether their data is what their sidecars say."""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from ignite_core.exceptions import CheckpointError, shown
from ignite_core.handlers.checkpoint.storage.hashing import digest
from ignite_core.handlers.checkpoint.storage.manifest import (
    KEYS,
    SUFFIX,
    TEMPORARY,
    FileDigest,
    Manifest,
    Sidecar,
    open_file,
    parse,
    read_text,
    sidecar_path,
    temporary_path,
)

__all__ = [
    "Damage",
    "FileDigest",
    "Manifest",
    "Scan",
    "Verify",
    "check_data",
    "check_digest",
    "check_file",
    "data_path",
    "find_manifest",
    "is_of_others",
    "manifests",
    "names_in",
    "read_manifest",
    "scan",
    "sidecar_path",
    "standing",
]

#: How often to look again where checkpoints are saved and deleted meanwhile.
_ATTEMPTS = 100

#: How thoroughly data is compared with what stands beside it: every byte, or sizes only.
Verify: TypeAlias = Literal["full", "size"]


@dataclass(frozen=True)
class Damage:
    """Why a checkpoint cannot be used, and its serial where that is known."""

    reason: str
    serial: int | None = None


@dataclass(frozen=True)
class Scan:
    """What is in a folder.

    Attributes:
        manifests: Of the checkpoints that are complete, newest first. Their bytes were not compared.
        damaged: What is wrong with others, by name; also with those whose data is gone.
        unfinished: Sidecars without data, or that name two checkpoints, either of which may be what stands there.
    """

    manifests: list[Manifest]
    damaged: dict[str, Damage]
    unfinished: dict[Path, Sidecar]

    def damage_since(self, serial: int) -> list[str]:
        """What is wrong with those that are newer, or may be; older ones may just be on their way out."""
        return [damage.reason for damage in self.damaged.values() if damage.serial is None or damage.serial > serial]


def manifests(folder: Path, prefix: str | None = None) -> list[Manifest]:
    """The checkpoints in a folder, newest first. What is damaged is left out, with one warning if it may be newer.

    Args:
        folder: Where they are.
        prefix: What their names begin with.

    Raises:
        CheckpointError: If the folder cannot be read.

    Example:
        >>> import tempfile
        >>> from ignite_core.handlers.checkpoint.storage.commit import publish
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for step in (1, 2):
        ...         manifest = publish(
        ...             Path(folder, f"run_{step}.bin"), lambda file: file.write(b"weights"), {"step": step}
        ...         )
        ...     [(manifest.name, manifest.step) for manifest in manifests(Path(folder), "run_")]
        [('run_2.bin', 2), ('run_1.bin', 1)]
    """
    found = scan(folder, prefix)
    reasons = found.damage_since(max((manifest.serial for manifest in found.manifests), default=0))
    if reasons:
        warnings.warn(f"{folder}: checkpoints that cannot be used are left out: {'; '.join(reasons)}", stacklevel=2)
    return found.manifests


def read_manifest(path: Path) -> Manifest:
    """Read what stands beside the checkpoint at ``path``, whose own bytes are compared only where two may stand there.

    Raises:
        CheckpointError: If nothing stands beside it, or what does is damaged.

    Example:
        >>> read_manifest(Path("nowhere.pt"))
        Traceback (most recent call last):
        ignite_core.exceptions.CheckpointError: nowhere.pt.json: cannot be read: ...
    """
    place = sidecar_path(path)
    return standing(path.parent, _of(place, parse(read_text(place), place)))


def scan(folder: Path, prefix: str | None = None) -> Scan:
    """Look at all sidecars in a folder.

    Raises:
        CheckpointError: If the folder cannot be read.
    """
    before = _snapshot(folder)
    for _ in range(_ATTEMPTS):
        found = Scan([], {}, {})
        for name in before:
            if name.endswith(SUFFIX) and not name.startswith(TEMPORARY):
                _look_at(folder / name, prefix or "", found)
        after = _snapshot(folder)
        if after == before:  # else one may have come after the names were listed, and another have gone since
            break
        before = after
    found.manifests.sort(key=lambda manifest: (manifest.serial, manifest.saved_at, manifest.uuid), reverse=True)
    return found


def _snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """What tells whether anything has changed; not what grows all the time, as temporary files and logs do."""
    snapshot = {}
    try:
        with os.scandir(folder) as entries:
            found = {entry.name: entry for entry in entries}
        for name, entry in found.items():
            if name.startswith(TEMPORARY):
                snapshot[name] = (0, 0)
            elif name.endswith(SUFFIX) or name + SUFFIX in found:
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    snapshot[name] = (status.st_ino, status.st_mtime_ns)
    except OSError as error:
        raise CheckpointError(f"{folder}: the folder cannot be read: {error}") from error
    return snapshot


def _look_at(place: Path, prefix: str, found: Scan) -> None:
    try:
        sidecar = _read(place)
        if sidecar is None or not sidecar.checkpoint.name.startswith(prefix):
            return
        if sidecar.previous is not None:
            found.unfinished[place] = sidecar
        folder, manifest = place.parent, sidecar.checkpoint
        is_announced = not _is_there(folder, manifest)
        if is_announced:
            found.unfinished[place] = sidecar
            if os.path.lexists(temporary_path(folder, manifest.uuid, "data")):
                return
        if not is_announced or _is_there(folder, manifest):  # it may have got its name in between
            found.manifests.append(standing(folder, sidecar))
        elif os.path.lexists(place):  # else it is being removed
            reason = f"{folder / manifest.name}: is missing, though {place.name} is there"
            found.damaged[manifest.name] = Damage(shown(reason), manifest.serial)
    except CheckpointError as error:
        name = place.name.removesuffix(SUFFIX)
        if name.startswith(prefix) and not isinstance(error.__cause__, FileNotFoundError):
            found.damaged[name] = Damage(str(error))


def find_manifest(path: Path) -> Manifest | None:
    """What stands beside the checkpoint at ``path``; None if nothing does, or something that is not of this library.

    Raises:
        CheckpointError: If what stands there is damaged.
    """
    place = sidecar_path(path)
    sidecar = _read(place) if os.path.lexists(place) else None
    return None if sidecar is None else standing(path.parent, sidecar)


def _read(place: Path) -> Sidecar | None:
    """A sidecar; None if it was not meant to be one: other programs write JSON too."""
    text = read_text(place)
    try:
        return _of(place, parse(text, place))
    except CheckpointError:
        is_ours = _is_ours(text)
        if is_ours or (is_ours is None and place.with_name(place.name.removesuffix(SUFFIX)).exists()):
            raise
        return None


def is_of_others(path: Path) -> bool:
    """Whether a file of another program has the name that the manifest of a checkpoint would have."""
    try:
        return _is_ours(read_text(sidecar_path(path))) is False
    except CheckpointError:
        return False


def _is_ours(text: bytes) -> bool | None:
    """Whether JSON was meant to be a sidecar, however damaged; None if it is no JSON."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return isinstance(content, dict) and not KEYS.isdisjoint(content)


def _of(place: Path, sidecar: Sidecar) -> Sidecar:
    told = {manifest.name for manifest in (sidecar.checkpoint, sidecar.previous) if manifest is not None}
    if {sidecar_path(place.with_name(name)) for name in told} != {place}:
        raise CheckpointError(f"{place}: must tell of the checkpoint that it is named after, tells of {sorted(told)}")
    return sidecar


def _is_there(folder: Path, manifest: Manifest) -> bool:
    return os.path.lexists(data_path(folder, manifest))


def data_path(folder: Path, manifest: Manifest) -> Path:
    """Where the data of a checkpoint stands, or would stand.

    A folder cannot be replaced in one step: while that is done, or if the process ended then, the one before is away
    and the new one, complete, still has its temporary name.
    """
    path, temporary = folder / manifest.name, temporary_path(folder, manifest.uuid, "data")
    if manifest.kind == "folder" and not os.path.lexists(path) and os.path.lexists(temporary):
        place = sidecar_path(path)
        sidecar = parse(read_text(place), place)
        if sidecar.previous is not None and sidecar.checkpoint == manifest:
            return temporary
    return path


def standing(folder: Path, sidecar: Sidecar) -> Manifest:
    """Which checkpoint stands there: of two that a sidecar names, the one whose digests are those of the data.

    Raises:
        CheckpointError: If it is neither of them.
    """
    if sidecar.previous is None:
        return sidecar.checkpoint
    for manifest in (sidecar.checkpoint, sidecar.previous):
        try:
            check_data(data_path(folder, manifest), manifest)
        except CheckpointError:
            continue
        return manifest
    raise CheckpointError(
        f"{folder / sidecar.checkpoint.name}: is damaged: it has neither of the digests that it may have"
    )


def check_data(path: Path, manifest: Manifest, verify: Verify = "full") -> None:
    """Compare what stands at ``path`` with a manifest.

    Raises:
        CheckpointError: Naming the file that differs.
    """
    if manifest.kind == "folder":
        _check_names(path, manifest)
    for name, expected in manifest.files.items():
        place = path / name if manifest.kind == "folder" else path
        fd = open_file(place)
        try:
            check_file(fd, place, expected, verify)
        finally:
            os.close(fd)


def check_file(fd: int, path: Path, expected: FileDigest, verify: Verify) -> None:
    """Compare an open file with what it must be.

    Raises:
        CheckpointError: If it differs.
    """
    size = os.fstat(fd).st_size
    if size != expected.size:
        raise CheckpointError(f"{path}: is damaged: it must have {expected.size} bytes, has {size}")
    if verify == "full":
        try:
            check_digest(digest(fd), path, expected)
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read: {error}") from error


def check_digest(found: str, path: Path, expected: FileDigest) -> None:
    """Compare a digest with what it must be.

    Raises:
        CheckpointError: If it differs.
    """
    if found != expected.digest:
        raise CheckpointError(f"{path}: is damaged: its SHA-256 must be {expected.digest[:12]}…, is {found[:12]}…")


def _check_names(folder: Path, manifest: Manifest) -> None:
    """Every file of a folder was saved, none is missing, and nothing leads elsewhere."""
    found = names_in(folder)
    if found != set(manifest.files):
        missing, more = sorted(set(manifest.files) - found), sorted(found - set(manifest.files))
        raise CheckpointError(f"{folder}: is damaged: the files {missing} are missing, {more} do not belong there")


def names_in(folder: Path) -> set[str]:
    """The files in a folder and in those within it, links as they are.

    Raises:
        CheckpointError: If one of them cannot be read.
    """
    found = set()
    for place, folders, names in os.walk(folder, onerror=_refuse):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        found |= {os.path.relpath(os.path.join(place, name), folder) for name in [*names, *links]}
    return found


def _refuse(error: OSError) -> None:
    raise CheckpointError(f"{error.filename}: cannot be read: {error}") from error
