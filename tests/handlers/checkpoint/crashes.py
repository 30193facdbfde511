"""What a disk may hold after power was lost: every legal outcome of a recorded save.

As file systems promise no more than POSIX says: bytes of a file are safe once it was synced, a change of a folder
(a file made, renamed, deleted) once that folder was synced. Of what was not, any part may be there, in any order: of
writes all, none, the first half, zeros of the right length, or later ones without earlier ones; of changes of folders
any choice. (After the model of Pillai et al., OSDI 2014, in plain Python.)
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.io_shim import Op

__all__ = ["Disk", "crash_states", "read_disk"]

#: By path within the folder: the bytes of a file, or None for a folder.
Disk = dict[str, bytes | None]


@dataclass
class _File:
    """A file of the disk, whatever it is called."""

    writes: list[bytes] = field(default_factory=list)
    safe: int = 0  #: so many of the writes were synced

    def variants(self, most: int, draw: random.Random) -> list[bytes]:
        """What may be in it."""
        begin, pending = b"".join(self.writes[: self.safe]), self.writes[self.safe :]
        if not pending:
            return [begin]
        rest = b"".join(pending)
        found = [begin + rest, begin, begin + rest[: len(rest) // 2], begin + bytes(len(rest))]
        for _ in range(most if len(pending) > 1 else 0):
            pieces = [piece if draw.random() < 0.5 else bytes(len(piece)) for piece in pending]
            found.append((begin + b"".join(pieces))[: draw.randrange(len(begin), len(begin + rest)) + 1])
        return list(dict.fromkeys(found))


@dataclass
class _Change:
    """Of one folder (replace: of the one folder that both names are in)."""

    kind: str
    path: str
    target: str = ""
    file: _File | None = None
    is_safe: bool = False


def read_disk(folder: Path) -> Disk:
    """All that is in a folder now, taken for safe."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def crash_states(before: Disk, ops: Sequence[Op], root: Path, most: int, seed: int) -> Iterator[tuple[int, Disk]]:
    """After each number of operations: what the disk may hold; ``most`` states, drawn at random, if there are more.

    A change that is pending at several places of the recording gives the same states again; these are left out.
    """
    seen: set[int] = set()
    for length in range(len(ops) + 1):
        choices = _Replay(before, ops[:length], root)
        for state in choices.states(most, random.Random(f"{seed} {length}")):
            key = hash((length == len(ops), frozenset(state.items())))
            if key not in seen:
                seen.add(key)
                yield length, state


class _Replay:
    def __init__(self, before: Disk, ops: Sequence[Op], root: Path) -> None:
        self._before, self._root = before, root
        self._files: dict[str, _File] = {}  # by present name
        self._changes: list[_Change] = []
        for op in ops:
            self._do(op)

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _do(self, op: Op) -> None:
        name = self._name(op.path)
        if op.kind in ("create", "mkdir"):
            if op.kind == "create":
                self._files[name] = _File()
            self._changes.append(_Change(op.kind, name, file=self._files.get(name)))
        elif op.kind == "write":
            assert op.data is not None
            self._files[name].writes.append(op.data)
        elif op.kind == "fsync":
            self._files[name].safe = len(self._files[name].writes)
        elif op.kind == "fsync_path":
            for change in self._changes:
                change.is_safe |= Path(change.path).parent.as_posix() == name
        elif op.kind == "close":
            pass
        elif op.kind == "replace":
            assert op.target is not None
            target = self._name(op.target)
            self._changes.append(_Change(op.kind, name, target))
            moved = [known for known in self._files if known == name or known.startswith(f"{name}/")]
            for known in moved:
                self._files[target + known[len(name) :]] = self._files.pop(known)
        else:
            self._changes.append(_Change(op.kind, name))

    def states(self, most: int, draw: random.Random) -> Iterator[Disk]:
        pending = [number for number, change in enumerate(self._changes) if not change.is_safe]
        files = [change.file for change in self._changes if change.file is not None]
        variants = [file.variants(most, draw) for file in files]
        choices = [[True, False] for _ in pending]
        count = 2 ** len(pending)
        for options in variants:
            count *= len(options)
        if count <= most:
            drawn: Iterator[tuple[tuple[bool, ...], tuple[bytes, ...]]] = (
                (applied, contents)
                for applied in itertools.product(*choices)
                for contents in itertools.product(*variants)
            )
        else:
            drawn = (
                (tuple(draw.random() < 0.5 for _ in pending), tuple(draw.choice(options) for options in variants))
                for _ in range(most)
            )
        for applied, contents in drawn:
            skipped = {number for number, is_applied in zip(pending, applied, strict=True) if not is_applied}
            yield self._disk(skipped, {id(file): content for file, content in zip(files, contents, strict=True)})

    def _disk(self, skipped: set[int], contents: dict[int, bytes]) -> Disk:
        disk = dict(self._before)
        for number, change in enumerate(self._changes):
            if number in skipped:
                continue
            if change.kind == "create":
                disk[change.path] = contents[id(change.file)]
            elif change.kind == "mkdir":
                disk.setdefault(change.path, None)
            elif change.kind == "unlink":
                disk.pop(change.path, None)
            elif change.kind == "rmtree":
                for path in _below(disk, change.path):
                    del disk[path]
            else:
                moved = _below(disk, change.path)
                if moved:
                    for path in _below(disk, change.target):
                        del disk[path]
                for path in moved:
                    disk[change.target + path[len(change.path) :]] = disk.pop(path)
        return {path: content for path, content in disk.items() if _has_folder(disk, path)}


def _below(disk: Disk, path: str) -> list[str]:
    return [known for known in disk if known == path or known.startswith(f"{path}/")]


def _has_folder(disk: Disk, path: str) -> bool:
    """What is in a folder that was lost is lost with it."""
    return all(parent.as_posix() in disk for parent in Path(path).parents if parent.as_posix() != ".")
