"""Write docs/tasks.md from the docstrings of the tasks."""

from __future__ import annotations

import ast
from pathlib import Path

from conveyor.tasks import find, summaries

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "tasks.md"


def page() -> str:
    """A chapter a task."""
    parts = [
        "# Tasks\n\nWhat can be trained; [the guide](guide.md) says how, which is the same for all.\n"
        "`make docs` makes this page of the docstrings in `src/conveyor/tasks/`.\n"
    ]
    for name in summaries():
        file = ROOT / "src" / "conveyor" / "tasks" / f"{name.replace('-', '_')}.py"
        title, _, text = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n")
        endings = ", ".join(f"`{ending}`" for ending in find(name).ENDINGS)
        more = f"`predict -o` writes {endings}. `conveyor train {name} --help` lists every option."
        parts.append(f"## {name}\n\n{title}\n{text}\n\n{more}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
