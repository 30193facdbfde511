"""Inspect checkpoints from a shell: ``python -m ignite_core.checkpoint show|verify|diff PATH [PATH]``.

No code in a checkpoint is run.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor

from ignite_core.exceptions import CheckpointError, shown
from ignite_core.handlers.checkpoint.storage.load import load, verify_checkpoint
from ignite_core.handlers.checkpoint.storage.scan import Manifest, find_manifest, manifest_path, scan

__all__ = ["main"]

#: Entries of the manifest that are shown first, in this order.
_FIRST = ("step", "score", "score_name", "objects", "trainer")

_DIFFERENT, _TROUBLE = 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: By default those of the command line.

    Returns:
        The exit code: 0 for success; 1 if a checkpoint is damaged, or two are different; 2 if there is no checkpoint,
        or it cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save({"weight": torch.ones(2, 3), "step": 7}, f"{folder}/a.pt")
        ...     torch.save({"weight": torch.ones(2, 3), "step": 8}, f"{folder}/b.pt")
        ...     main(["diff", f"{folder}/a.pt", f"{folder}/b.pt"])
        step: 7, and 8
        1 of 2 entries are different
        1
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    missing = [path for path in options.paths if not path.exists() and not manifest_path(path).exists()]
    if missing:
        _print(f"{parser.prog}: {missing[0]} does not exist", file=sys.stderr)
        return _TROUBLE
    try:
        code: int = options.command(*options.paths, **({"most": options.most} if "most" in options else {}))
    except CheckpointError as error:
        _print(f"{parser.prog}: {error}", file=sys.stderr)
        return _TROUBLE
    return code


def _print(text: object, file: TextIO | None = None) -> None:
    """Print without control characters, which a checkpoint may contain."""
    print(shown(text).replace("\n", "\\n"), file=file)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ignite_core.checkpoint", description="Inspect checkpoints.")
    commands = parser.add_subparsers(required=True)
    show = commands.add_parser("show", help="show the content of a checkpoint, or list those in a folder")
    show.set_defaults(command=_show)
    verify = commands.add_parser("verify", help="verify a checkpoint, or each one in a folder")
    verify.set_defaults(command=_verify)
    diff = commands.add_parser("diff", help="show the differences between two checkpoints")
    diff.set_defaults(command=_diff)
    diff.add_argument("--most", type=int, default=10, metavar="N", help="differences shown (default: 10)")
    for command, names in ((show, ["PATH"]), (verify, ["PATH"]), (diff, ["PATH", "PATH"])):
        command.add_argument("paths", nargs=len(names), type=Path, metavar="PATH", help="a checkpoint")
    return parser


# ---------------------------------------------------------------------------------------------------------- commands


def _show(path: Path) -> int:
    if _is_folder_of_checkpoints(path):
        return _list(path)
    manifest = find_manifest(path)
    _print(path if manifest is not None else f"{path}: has no manifest")
    if manifest is not None:
        _show_manifest(manifest)
    if manifest is not None and manifest.kind == "folder":
        lines = [(name, _bytes(file.size)) for name, file in manifest.files.items()]
    else:
        lines = [(name, _text(value)) for name, value in _entries(load(path))]
    width = max((len(name) for name, _ in lines), default=0)
    for name, text in lines:
        _print(f"  {name:{width}}  {text}")
    return 0


def _list(folder: Path) -> int:
    """One line for each checkpoint in a folder, the newest first."""
    found = scan(folder)
    for manifest in found.manifests:
        size = sum(file.size for file in manifest.files.values())
        about = [f"{key} {manifest.about[key]}" for key in _FIRST[:2] if manifest.about.get(key) is not None]
        _print(f"{manifest.name}  {', '.join([*about, _bytes(size), _date(manifest)])}")
    for damage in found.damaged.values():
        _print(f"damaged: {damage.reason}")
    if not found.manifests and not found.damaged:
        _print(f"{folder}: no checkpoint with a manifest found")
    return 0


def _show_manifest(manifest: Manifest) -> None:
    about = dict(manifest.about)
    versions = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
    lines = {name: about.pop(name) for name in _FIRST if about.get(name) is not None}
    for name in ("versions", *_FIRST):
        about.pop(name, None)
    for name, value in {**lines, **about, "saved": _date(manifest), "versions": versions}.items():
        _print(f"{name}: {', '.join(map(str, value)) if isinstance(value, list) else value}")


def _verify(path: Path) -> int:
    paths = [path]
    damaged: list[str] = []
    if _is_folder_of_checkpoints(path):
        found = scan(path)
        paths = [path / manifest.name for manifest in found.manifests]
        damaged = [damage.reason for damage in found.damaged.values()]
        if not paths and not damaged:
            _print(f"{path}: no checkpoint with a manifest found")
    for one in paths:
        try:
            manifest = verify_checkpoint(one)
        except CheckpointError as error:
            damaged.append(str(error))
        else:
            _print(f"{one}: {'whole' if manifest is not None else 'safe to load; not verified, as it has no manifest'}")
    for reason in damaged:
        _print(f"damaged: {reason}")
    return _DIFFERENT if damaged else 0


def _diff(one: Path, two: Path, most: int) -> int:
    first, second = (dict(_entries(load(path))) for path in (one, two))
    names = list(dict.fromkeys([*first, *second]))
    differences = [
        f"{name}: {difference}" for name in names if (difference := _difference(name, first, second)) is not None
    ]
    for line in islice(differences, max(0, most)):
        _print(line)
    if len(differences) > most:
        _print(f"and {len(differences) - most} more (--most N shows more)")
    _print(f"{len(differences)} of {len(names)} entries are different" if differences else "the same")
    return _DIFFERENT if differences else 0


# ------------------------------------------------------------------------------------------------- what is in a file


def _entries(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings, lists and tuples, by the keys that lead to them."""
    is_list = isinstance(value, list | tuple)
    if (isinstance(value, Mapping) or is_list) and value:
        for key, inner in enumerate(value) if is_list else value.items():
            name = str(key) if not path else f"{path}[{key}]" if is_list else f"{path}.{key}"
            yield from _entries(inner, name)
    else:
        yield path or "(all)", value


def _text(value: Any) -> str:
    if isinstance(value, Tensor):
        size = _bytes(value.numel() * value.element_size())
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}, {size}"
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _difference(name: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> str | None:
    """The difference of an entry; None if there is none."""
    if name not in first or name not in second:
        return f"only in the {'first' if name in first else 'second'}"
    one, two = first[name], second[name]
    if not (isinstance(one, Tensor) and isinstance(two, Tensor)):
        same = type(one) is type(two) and (one == two or (one != one and two != two))
        return None if same else f"{_text(one)}, and {_text(two)}"
    if one.dtype != two.dtype or one.shape != two.shape:
        return f"{_text(one)}, and {_text(two)}"
    if _bits(one).equal(_bits(two)):
        return None
    if one.dtype.is_floating_point or one.dtype.is_complex:
        distance = (one.to(torch.complex128) - two.to(torch.complex128)).abs()
    else:
        distance = (one.to(torch.float64) - two.to(torch.float64)).abs()
    count = int((_bits(one) != _bits(two)).any(-1).sum())
    return f"{count} of {one.numel()} numbers are different, by up to {distance.max().item():g}"


def _bits(tensor: Tensor) -> Tensor:
    """The bytes of each number, so that equal NaNs compare as equal."""
    return tensor.contiguous().reshape(-1, 1).view(torch.uint8)


def _is_folder_of_checkpoints(path: Path) -> bool:
    return path.is_dir() and find_manifest(path) is None


def _bytes(size: int) -> str:
    number = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"


def _date(manifest: Manifest) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(manifest.saved_at))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:  # the reader has closed the pipe; flushing at exit must not fail either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_TROUBLE)
