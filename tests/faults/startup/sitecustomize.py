"""Plants a bug in each process that imports the library, if this folder is on ``PYTHONPATH``.

Python imports this module when it starts, in processes of torchrun, multiprocessing and subprocess too. The variable
``IGNITE_CORE_PLANTED`` holds the name of the bug; without it nothing happens.
"""

import importlib.machinery
import importlib.util
import os
import sys


class _PlantOnImport:
    """Plants the bug right after the package was imported, so before any of its modules is used."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if name != "ignite_core":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        load = spec.loader.exec_module

        def load_and_plant(module: object) -> None:
            load(module)
            from tests.faults.planted.table import plant

            plant(os.environ["IGNITE_CORE_PLANTED"])

        spec.loader.exec_module = load_and_plant
        return spec


if os.environ.get("IGNITE_CORE_PLANTED"):
    sys.meta_path.insert(0, _PlantOnImport())
