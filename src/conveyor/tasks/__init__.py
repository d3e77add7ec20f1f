"""The tasks, a file each. A task is found by its file's name and described by the first line of its docstring.

What such a file offers is said in `conveyor.training.task`. Nothing is imported until a task is used.
"""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from conveyor.errors import ConveyorError
from conveyor.training.options import nearest

if TYPE_CHECKING:
    from conveyor.training.task import Model, Task


def summaries(folder: Path = Path(__file__).parent) -> dict[str, str]:
    """Names, with dashes, of the modules in a folder, and the first lines of their docstrings; none is imported."""
    files = sorted(file for file in folder.glob("*.py") if not file.name.startswith("_"))
    return {file.stem.replace("_", "-"): _summary(file) for file in files}


def find(name: str) -> Task:
    """The task of that name, imported."""
    if name not in summaries():
        known = list(summaries())
        raise ConveyorError(f"[tasks] unknown task {name!r}{nearest(name, known)}; expected one of: {', '.join(known)}")
    module: Task = import_module(f"conveyor.tasks.{name.replace('-', '_')}")
    return module


def load(run: str | Path) -> Model:
    """The trained model of a run, or of a folder its bundle was copied to.

    >>> load("runs/language-model/2026-01-01_12-00-00").predict("For his contributions, brave")  # doctest: +SKIP
    """
    from conveyor.training import bundle

    return bundle.read(Path(run), find(bundle.read_description(Path(run))["task"]))


def _summary(file: Path) -> str:
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0]
