"""Compare states bit for bit, and read the manifests of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ignite_core.handlers.checkpoint.storage.scan import Manifest, find_manifest, scan

__all__ = ["manifests", "read_manifest", "same"]


def manifests(folder: Path, prefix: str | None = None) -> list[Manifest]:
    """Of the complete checkpoints, the newest first."""
    return scan(folder, prefix).manifests


def read_manifest(path: Path) -> Manifest:
    """Of a checkpoint that has one."""
    manifest = find_manifest(path)
    assert manifest is not None, path
    return manifest


def same(one: Any, two: Any) -> bool:
    """Compare tensors, numbers and strings, in nested dictionaries (their order counts), lists and tuples."""
    if isinstance(one, torch.Tensor):
        return one.dtype == two.dtype and torch.equal(one, two)
    if isinstance(one, dict):
        return list(one) == list(two) and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    return bool(one == two)
