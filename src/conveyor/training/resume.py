"""Going on with a run: its options, and which of them may differ this time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from conveyor.errors import ConveyorError
from conveyor.training import bundle, files
from conveyor.training.options import flag, flat, from_json
from conveyor.training.task import Task, name_of

MAY_DIFFER = {
    "data",  # it may have moved; the task's reading checks that it is the same
    *("epochs", "max_steps", "max_minutes", "patience", "threads", "log_every", "save_minutes", "save_steps", "seeds"),
}
"""Options of where the data lies, how long, how often and how loud, which leave what was learned as it is."""


def read_config(task: Task, path: Path) -> Any:
    """A task's options from a JSON file."""
    return from_json(task.Config, files.read_json(path, "config"), str(path))


def config_of(task: Task, run: Path) -> Any:
    """The options of a run of that task."""
    other = bundle.read_description(run)["task"]
    if other != name_of(task):
        raise ConveyorError(f"[resume] {run}: expected a run of {name_of(task)}, got one of {other}")
    return read_config(task, run / "config.json")


def check_changes(before: Any, now: Any) -> None:
    """Raise one error that names every option that must not differ and does."""
    old, new = dict(flat(before)), dict(flat(now))
    changed = [
        f"{flag(name)} was {old[name]!r}, got {new[name]!r}"
        for name in old
        if old[name] != new[name] and name not in MAY_DIFFER
    ]
    if changed:
        raise ConveyorError(f"[resume] {'; '.join(changed)}: these cannot change in a run; start a new one")
