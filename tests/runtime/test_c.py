"""The library for C, by programs that are compiled here."""

import platform
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conveyor import LSTM
from conveyor.interchange import modules
from conveyor.interchange.bundle import to_bytes
from conveyor.interchange.graph import Graph
from conveyor.runtime import Model
from conveyor.runtime.__main__ import INCLUDE, LIBRARY

ROOT = Path(__file__).parent.parent.parent
SOUND = Path(__file__).parent / "attacks" / "sound.safetensors"


def compiler() -> list[str]:
    """One for C, of the machine or of the package that built the kernels."""
    found = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    if found:
        return [found]
    if find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc"]
    pytest.skip("there is no C compiler here")


def compiled(source: Path, folder: Path) -> Path:
    program = folder / source.stem
    flags = [
        "-O1",
        "-Wall",
        "-Wextra",
        "-Werror",
        f"-I{INCLUDE}",
        str(source),
        str(LIBRARY),
        f"-Wl,-rpath,{LIBRARY.parent}",
        "-ldl",
    ]
    subprocess.run([*compiler(), *flags, "-o", str(program)], check=True)
    return program


def bundle(folder: Path, **options: Any) -> Path:
    graph = Graph(features=5)
    x = modules.recurrent(graph, 0, LSTM(5, 40, 2, **options).eval())
    graph.linear(x, np.random.default_rng(0).normal(size=(3, 80 if options.get("bidirectional") else 40)))
    path = folder / "runtime.safetensors"
    path.write_bytes(to_bytes(graph))
    return path


def test_the_example_steps_a_bundle(tmp_path: Path) -> None:
    program, file = compiled(ROOT / "runtime" / "example.c", tmp_path), bundle(tmp_path)
    x = np.random.default_rng(0).normal(size=(50, 5)).astype(np.float32)
    done = subprocess.run([program, file], input=x.tobytes(), capture_output=True, check=True)
    np.testing.assert_array_equal(np.frombuffer(done.stdout, np.float32).reshape(50, 3), Model.load(file).run(x))


def test_it_says_what_is_wrong(tmp_path: Path) -> None:
    program = compiled(ROOT / "runtime" / "example.c", tmp_path)
    for file, error in (
        (tmp_path / "none", "No such file"), (bundle(tmp_path, bidirectional=True), "from both ends"),
        (tmp_path, "expected a file, got a folder"), (SOUND, "the bundle takes tokens"),
    ):  # fmt: skip
        done = subprocess.run([program, file], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        assert done.returncode == 1
        assert error in done.stderr


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="counts by what glibc calls its functions")
@pytest.mark.parametrize("variant", ["lstm", "layer-norm", "full-gate-recurrence"])
def test_a_step_allocates_nothing_and_takes_no_lock(variant: str, tmp_path: Path) -> None:
    program, file = compiled(Path(__file__).parent / "counted.c", tmp_path), bundle(tmp_path, variant=variant)
    done = subprocess.run([program, file, "1000"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "0", "0"]


def test_the_flags_are_told() -> None:
    done = subprocess.run([sys.executable, "-m", "conveyor.runtime"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [f"-I{INCLUDE}", str(LIBRARY), f"-Wl,-rpath,{LIBRARY.parent}"]
