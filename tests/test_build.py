"""How the kernels are built, and the set-up that builds them."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """scripts/setup.py, its .venv elsewhere."""
    spec = importlib.util.spec_from_file_location("conveyor_setup", ROOT / "scripts" / "setup.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "VENV", tmp_path)
    (tmp_path / "bin").mkdir()
    return module


def test_instruction_sets_share_no_functions() -> None:
    """A weak symbol common to two builds of cells.cpp could leave AVX-512 code in the scalar one: the linker
    keeps any of the copies."""
    builds = sorted((ROOT / "build").glob("*/.ninja_log"), key=lambda log: log.stat().st_mtime)
    if not builds or not shutil.which("nm"):
        pytest.skip("needs the build folder and nm")
    objects = list(builds[-1].parent.glob("CMakeFiles/cells_*.dir/kernels/cells.cpp.o"))
    assert objects
    for file in objects:
        isa = re.search(r"cells_(\w+)\.dir", str(file))[1]
        symbols = subprocess.run(["nm", "--defined-only", file], capture_output=True, text=True, check=True)
        weak = [line for line in symbols.stdout.splitlines() if re.match(r"\w+ [uVW] ", line)]
        assert [line for line in weak if isa not in line] == []


def test_a_compiler_named_by_the_user_is_used_or_refused(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(SystemExit, match="CXX=no-such-compiler does not compile"):
        setup.find_compiler()
    monkeypatch.setattr(setup, "compiles", lambda compiler: True)
    assert setup.find_compiler() == "no-such-compiler"


def test_without_a_compiler_one_is_installed(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = []
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(setup.shutil, "which", lambda name: None)
    monkeypatch.setattr(setup, "compiles", lambda compiler: bool(installed))
    monkeypatch.setattr(setup, "pip", lambda *arguments: installed.append(arguments))
    assert setup.find_compiler() == str(setup.VENV / "bin" / "zig-c++")
    assert installed == [("install", "ziglang")]
    assert "-mcpu=baseline" in (setup.VENV / "bin" / "zig-c++").read_text()


def test_an_old_python_is_refused_in_words(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 4, "final", 0))
    with pytest.raises(SystemExit, match=r"needs Python 3\.11 or newer; .* is 3\.10\.4"):
        setup.check_python()


@pytest.mark.parametrize("missing", ["venv", "ensurepip"])
def test_a_python_without_venv_is_refused_in_words(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setattr(setup.importlib.util, "find_spec", lambda name: None if name == missing else name)
    with pytest.raises(SystemExit, match="package python3-venv has them"):
        setup.check_python()


def test_a_changed_kernel_changes_the_digest(setup: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "cells.cpp"
    file.write_text("a")
    before = setup.digest([file], extra="g++")
    assert setup.digest([file], extra="clang++") != before
    file.write_text("b")
    assert setup.digest([file], extra="g++") != before
