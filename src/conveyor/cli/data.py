"""List the public data sets that --data knows by name."""

from __future__ import annotations

from conveyor.cli import table, wants_help


def run(args: list[str]) -> None:
    """Print each set: what it is, its licence, where it lies."""
    if args and wants_help(args, "usage: conveyor data"):
        return
    from conveyor.data import catalog

    print(table(dict(catalog.lines())))
    print("\nCONVEYOR_DATA names a folder to look in first; conveyor train TASK --data NAME fetches what is not there.")
