"""The command ``python -m ignite_core.handlers.flight merge FOLDER [-o FILE]``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ignite_core.handlers.flight.merging import merge


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m ignite_core.handlers.flight")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("merge", help="put the traces of several ranks into one file")
    command.add_argument("sources", nargs="+", help="folders, or files flight_rank*.json")
    command.add_argument("-o", "--output", help="the file to write; by default flight.json beside the first one")
    asked = parser.parse_args(arguments)
    try:
        print(merge(asked.sources, asked.output))
    except (OSError, ValueError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
