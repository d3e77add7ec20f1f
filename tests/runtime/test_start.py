"""What a program takes on that imports the runtime."""

import subprocess
import sys
from pathlib import Path

WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Missing())
"""
"""A program begins so on a machine that lacks packages."""
SOUND = Path(__file__).parent / "attacks" / "sound.safetensors"


def test_it_needs_numpy_and_the_kernels_alone() -> None:
    code = f"""{WITHOUT.replace("{names}", "('torch', 'safetensors', 'lightning', 'starlette', 'tyro')")}
from conveyor.runtime import Model
print(Model.load({str(SOUND)!r}).session().step(1).shape)
print(sorted(name for name in sys.modules if name.startswith("conveyor")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    shape, loaded = done.stdout.splitlines()
    assert shape == "(3,)"
    assert loaded == str(["conveyor", "conveyor._kernels", "conveyor.errors", "conveyor.runtime"])


def test_serving_needs_no_torch() -> None:
    code = f"""{WITHOUT.replace("{names}", "('torch', 'lightning')")}
from conveyor.cli import main
sys.exit(main(["serve", "none.safetensors"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "No such file" in done.stderr
    assert done.returncode == 2
