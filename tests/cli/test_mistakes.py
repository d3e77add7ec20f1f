"""Every mistake of a user is one sentence on stderr and exit code 2."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conveyor.cli import main
from conveyor.tasks import language_model as task
from conveyor.training import bundle

FACTS = {"tokenizer": {"kind": "char", "alphabet": "abc"}}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files of every kind, and a good bundle in `run`."""
    monkeypatch.chdir(tmp_path)
    Path("empty.txt").touch()
    Path("latin.txt").write_bytes(b"caf\xe9 " * 1000)
    Path("short.txt").write_text("short")
    Path("enough.txt").write_text("enough " * 2000)
    Path("pictures").mkdir()
    Path("pictures/a.png").write_bytes(b"\x89PNG\0")
    Path("not.json").write_text("{")
    Path("odd.json").write_text('{"hiden_size": 3}')
    bundle.write_description(Path("run"), "language-model", task.Config(hidden_size=4), FACTS)
    bundle.write_weights(Path("run"), task.network(task.Config(hidden_size=4), FACTS))
    Path("foreign").mkdir()
    Path("foreign/model.json").write_text('{"model_type": "llama"}')
    bundle.write_description(Path("odd"), "language-model", task.Config(), {})
    return tmp_path


TRAIN = "train language-model"
MISTAKES = {
    "trian": "unknown verb 'trian'; did you mean train?; expected one of: ",
    "train": "usage: conveyor train TASK",
    "train langage-model": "[tasks] unknown task 'langage-model'; did you mean language-model?; expected one of: ",
    f"{TRAIN} --hiden 3": "[options] unknown option --hiden; did you mean --hidden-size?; ",
    f"{TRAIN} --hidden 0": "[options] unknown option --hidden; did you mean --hidden-size?; ",
    f"{TRAIN} --hidden-size 0": "[options] --hidden-size: expected a whole number from 1 to 1,000,000, got 0",
    f"{TRAIN} --hidden-size many": "[options] Error parsing --hidden-size: invalid literal for int()",
    f"{TRAIN} --tokens letters": "[options] invalid choice 'letters' for argument '--tokens'. Expected one of (",
    f"{TRAIN} --epochs": "[options] Missing value for argument '--epochs'",
    f"{TRAIN} --data": "[options] --data: expected one value or more, none of them empty, got ()",
    f"{TRAIN} --data --epochs 1": "[options] --data: expected one value or more, none of them empty, got ()",
    f"{TRAIN} --data=": "[options] --data: expected one value or more, none of them empty, got ('',)",
    f"{TRAIN} stray": "[options] Unrecognized options: stray",
    f"{TRAIN} --data empty.txt": "[text] HERE/empty.txt: the file is empty",
    f"{TRAIN} --data latin.txt": "[text] HERE/latin.txt: expected UTF-8, but byte 3 (0xe9) is not",
    f"{TRAIN} --data short.txt": "[data] the training part is shorter than one batch: expected 6,401 tokens or more, ",
    f"{TRAIN} --data latin.txt/x": "[text] HERE/latin.txt/x: no such file or folder",
    f"{TRAIN} --data enough.txt --test-share 0": "[data] the test part is shorter than one batch: expected 2 tokens",
    f"{TRAIN} --data pictures": "[text] HERE/pictures: no text file in this folder",
    f"{TRAIN} --data nowhere": "[text] HERE/nowhere: no such file or folder",
    f"{TRAIN} --device mps": "[train] --device mps: torch finds no such device here",
    f"{TRAIN} --data enough.txt --hidden-size 1000000": "[train] the network's weights and gradients: expected at most",
    f"{TRAIN} --data enough.txt --runs short.txt": "[write] short.txt/",
    f"{TRAIN} --config nowhere": "[config] nowhere: cannot be read",
    f"{TRAIN} --config not.json": "[config] not.json: expected JSON, but",
    f"{TRAIN} --config odd.json": "[options] odd.json: unknown option 'hiden_size'; did you mean hidden_size?",
    f"{TRAIN} --resume nowhere": "[bundle] nowhere: expected a run's folder",
    f"{TRAIN} --resume=": "[bundle] .: expected a run's folder",
    f"{TRAIN} --config=": "[config] .: cannot be read",
    "evaluate": "usage: conveyor evaluate RUN",
    "evaluate nowhere": "[bundle] nowhere: expected a run's folder",
    "evaluate foreign": "[bundle] foreign/model.json: expected a model of format conveyor-model-1, got None",
    "evaluate odd": "[tokenizer] expected the description of a char, word or bpe tokenizer",
    "evaluate run --data empty.txt": "[text] HERE/empty.txt: the file is empty",
    "evaluate run --data": "[options] --data: expected one value or more, none of them empty, got ()",
    "predict": "usage: conveyor predict RUN INPUT",
    "predict run": "[predict] nothing to predict from",
    "predict run a --lenght 3": "[options] unknown option --lenght; did you mean --length?",
    "predict run a --top-p 0": "[options] --top-p: expected a number above 0, got 0.0",
}


def test_kernels_that_refuse_to_start_say_why() -> None:
    command = [sys.executable, "-m", "conveyor.cli", "train", "language-model", "--help"]
    done = subprocess.run(
        command, env=os.environ | {"CONVEYOR_ISA": "foo"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert re.fullmatch(r'conveyor: CONVEYOR_ISA: expected one of .*, got "foo"; .*\n', done.stderr)


@pytest.mark.parametrize("line", MISTAKES)
@pytest.mark.usefixtures("here")
def test_mistake(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 2
    said = capsys.readouterr()
    assert said.err.startswith("conveyor: " + MISTAKES[line].replace("HERE", str(Path.cwd())))
    assert said.err.endswith("\n")
    if not MISTAKES[line].startswith("usage"):
        assert said.err.count("\n") == 1
    assert said.out == ""
    assert not Path("runs").exists()
