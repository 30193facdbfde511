"""The random generators that a run draws from: python's, numpy's (if it is loaded) and torch's, of every device."""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping
from typing import Any

import torch

__all__ = ["manual_seed", "rng_state", "set_rng_state"]


def manual_seed(seed: int) -> None:
    """Seed python, torch on every device, and numpy if it is loaded.

    Args:
        seed: Any integer; numpy, which takes 32 bits, gets it modulo 2**32.

    Example:
        >>> manual_seed(1)
        >>> first = torch.rand(2), random.random()
        >>> manual_seed(1)
        >>> torch.equal(first[0], torch.rand(2)), first[1] == random.random()
        (True, True)
    """
    random.seed(seed)
    torch.manual_seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed % 2**32)


def rng_state() -> dict[str, Any]:
    """The state of all generators as tensors and numbers, which ``torch.load(weights_only=True)`` accepts.

    Example:
        >>> before = rng_state()
        >>> drawn = torch.rand(2), random.random()
        >>> set_rng_state(before)
        >>> torch.equal(drawn[0], torch.rand(2)), drawn[1] == random.random()
        (True, True)
    """
    version, words, gauss = random.getstate()
    state: dict[str, Any] = {
        "python": {"version": version, "words": torch.tensor(words), "gauss": gauss},
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state["cuda"] = torch.cuda.get_rng_state_all()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        own = numpy.random.get_state(legacy=False)
        key = torch.from_numpy(own["state"]["key"].astype("int64"))
        state["numpy"] = {"key": key, "pos": own["state"]["pos"], "has_gauss": own["has_gauss"], "gauss": own["gauss"]}
    return state


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Put back what :func:`rng_state` returned. Generators that are not there any more are left out."""
    python = state["python"]
    random.setstate((python["version"], tuple(python["words"].tolist()), python["gauss"]))
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]][: torch.cuda.device_count()])
    numpy = sys.modules.get("numpy")
    if numpy is not None and "numpy" in state:
        own = state["numpy"]
        words = own["key"].numpy().astype("uint32")
        numpy.random.set_state(("MT19937", words, own["pos"], own["has_gauss"], own["gauss"]))
