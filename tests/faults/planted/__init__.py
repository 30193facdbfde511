"""Bugs that could be in the library, and the tests that catch them."""

import importlib

from tests.faults.planted.table import PLANTED, ROOMS, Planted

__all__ = ["PLANTED", "Planted"]

for room in ROOMS:
    importlib.import_module(f"tests.faults.planted.{room}")
