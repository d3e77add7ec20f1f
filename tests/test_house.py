"""The package as a whole: what importing it costs, what it says when torch is missing, what is pinned."""

import ast
import re
import runpy
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest

import conveyor

ROOT = Path(__file__).parent.parent
ROOMS = {
    name: set(re.findall(r"\w+", may))
    for name, may in re.findall(
        r"^\| `src/conveyor/(\w+)\W.*\| ([\w, ]*)\|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE
    )
}
"""The rooms of the house, and what each may import."""


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_import_loads_neither_torch_nor_kernels() -> None:
    code = "import sys, conveyor; print([m for m in ('torch', 'numpy', 'conveyor._kernels') if m in sys.modules])"
    assert python(code).strip() == "[]"


@pytest.mark.parametrize("name", conveyor.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert name in dir(conveyor)
    assert getattr(conveyor, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'LTSM'"):
        _ = conveyor.LTSM


@pytest.mark.parametrize("name", ["LSTM", "set_num_threads"])
def test_without_torch_each_name_says_what_to_install(name: str) -> None:
    said = python(f"import sys; sys.modules['torch'] = None\nimport conveyor\nconveyor.{name}")
    assert said.strip().endswith(f"ImportError: conveyor.{name} needs torch: pip install 'conveyor[torch]'")


def test_every_requirement_is_pinned_in_its_range() -> None:
    """constraints.txt names one version for each package that pyproject.toml asks for, and no range contradicts it."""
    from packaging.requirements import Requirement

    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = {canonical(line.split("==")[0]): line.split("==")[1] for line in lines if "==" in line[:60]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"].values()
    wanted = [*project["build-system"]["requires"], *project["project"]["dependencies"], *chain(*extras)]
    for requirement in map(Requirement, wanted):
        if requirement.name != "conveyor":
            assert pins[canonical(requirement.name)] in requirement.specifier, requirement


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_what_they_may(room: str) -> None:
    """As the table in CONTRIBUTING.md says."""
    path = ROOT / "src" / "conveyor" / room
    files = [*path.glob("*.py")] or [path.with_suffix(".py")]
    assert set().union(*map(imported, files)) & (ROOMS.keys() | {"kernels"}) - {room} <= ROOMS[room]


def imported(file: Path) -> set[str]:
    """What of conveyor a file imports, by the first name behind it."""
    names = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return {name.split(".")[1].lstrip("_") for name in names if name.startswith("conveyor.")}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_page_of_tasks_is_that_of_their_docstrings() -> None:
    page = runpy.run_path(str(ROOT / "scripts" / "docs.py"))["page"]()
    assert (ROOT / "docs" / "tasks.md").read_text() == page, "run: make docs"
