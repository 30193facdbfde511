"""The commands ``python -m ignite_core checkpoint …`` and ``python -m ignite_core trace …``."""

from __future__ import annotations

import sys
from importlib import import_module

#: The module whose ``main`` takes the arguments of a command.
_COMMANDS = {"checkpoint": "ignite_core.checkpoint", "trace": "ignite_core.handlers.profiling._chrome_trace"}


def main() -> int:
    """Run the command named by the first argument."""
    name, *arguments = sys.argv[1:] or [""]
    if name not in _COMMANDS:
        print(f"usage: python -m ignite_core {{{','.join(_COMMANDS)}}} …", file=sys.stderr)
        return 2
    return import_module(_COMMANDS[name]).main(arguments) or 0


if __name__ == "__main__":
    sys.exit(main())
