"""List what can be trained."""

from __future__ import annotations

from conveyor.cli import table
from conveyor.tasks import summaries


def run(args: list[str]) -> None:
    """Print each task with its summary."""
    print(table(summaries()))
    print("\nconveyor train TASK --help lists a task's options.")
