"""Each build of the kernels this machine can run, held to the same as the one that is chosen."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conveyor import _kernels

TESTS = "(agree or nan or infinities or asked_for or change_a_bit or to_the_bit) and not every_instruction_set"


def test_the_one_asked_for_is_used() -> None:
    assert _kernels.isa() == os.environ.get("CONVEYOR_ISA", _kernels.available()[0])


@pytest.mark.parametrize("isa", [isa for isa in _kernels.available() if isa != _kernels.isa()])
def test_every_instruction_set(isa: str) -> None:
    """The tests of the kernels and of the variants, once more in a process of its own."""
    files = [str(Path(__file__).with_name(name)) for name in ("test_kernels.py", "test_variants.py")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", TESTS, *files, __file__]
    done = subprocess.run(
        command, env=os.environ | {"CONVEYOR_ISA": isa}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout
