"""The verbs, one after the other, as a user types them."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conveyor.cli import main
from conveyor.tasks import language_model as task
from conveyor.training import checkpoint, history

SMALL = [
    *("--data", "text.txt", "--threads", "1", "--learning-rate", "0.02", "--dropout-output", "0.1"),
    *("--hidden-size", "12", "--embedding-size", "6", "--layers", "1", "--batch-size", "4", "--sequence-length", "16"),
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("".join(f"{n} and {n + 1} are {2 * n + 1}.\n" for n in range(150)))
    return tmp_path


def train(*more: str) -> int:
    return main(["train", "language-model", *more])


def only_run(runs: str = "runs") -> Path:
    [run] = Path(runs, "language-model").iterdir()
    return run.relative_to(Path())


def test_help_and_tasks_need_no_torch() -> None:
    program = (
        "import sys; from conveyor.cli import main; main(['--help']); main(['tasks']); print('torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    for verb in ("train", "evaluate", "predict", "tasks", "demo"):
        assert re.search(rf"^  {verb} +[A-Z].*\.$", said, re.MULTILINE)
    assert re.search(r"^  language-model  +Language model: .*\.$", said, re.MULTILINE)
    assert said.endswith("False\n")


def test_train_evaluate_predict(capsys: pytest.CaptureFixture[str]) -> None:
    assert train(*SMALL, "--epochs", "3", "--log-every", "10") == 0
    run = only_run()
    said = capsys.readouterr().out
    scores = json.loads((run / "scores.json").read_text())
    assert f"perplexity {scores['test']['perplexity']:.5g}" in said
    assert str(run / "report.md") in said

    rows = history.read(run / "metrics.csv")
    losses = [row["train_loss"] for row in rows if "train_loss" in row]
    assert losses[-1] < losses[0] / 1.2
    assert all(row["tokens_per_second"] > 0 for row in rows if "train_loss" in row)
    assert min(row["valid_loss"] for row in rows if "valid_loss" in row) == scores["best_valid"]

    assert main(["evaluate", str(run)]) == 0
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert float(printed["loss"]) == pytest.approx(scores["test"]["loss"], rel=1e-4)
    assert float(printed["bits_per_character"]) == pytest.approx(scores["test"]["loss"] / math.log(2), rel=1e-4)

    Path("other.txt").write_text("QQQQ")
    assert main(["evaluate", str(run), "--data", "other.txt"]) == 0
    assert float(capsys.readouterr().out.split()[1]) > 3 * scores["test"]["loss"]

    assert main(["predict", str(run), "3 and 4 are", "--length", "5", "--show", "2", "--temperature", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "after '3 and 4 are' comes"
    assert all(re.fullmatch(r" +\d+\.\d\d%  '.+'", line) for line in lines[1:3])
    assert "\n".join(lines[4:]).startswith("3 and 4 are")


def test_config_is_reloadable(capsys: pytest.CaptureFixture[str]) -> None:
    assert train(*SMALL, "--epochs", "2", "--max-steps", "9") == 0
    first = only_run()
    assert train("--config", str(first / "config.json"), "--runs", "again") == 0
    assert train("--config", str(first / "config.json"), "--runs", "more", "--layers", "2") == 0
    again, more = only_run("again"), only_run("more")
    assert (again / "config.json").read_bytes() == (first / "config.json").read_bytes()
    assert (again / "model.safetensors").read_bytes() == (first / "model.safetensors").read_bytes()
    changed = json.loads((more / "config.json").read_text())
    assert changed == json.loads((first / "config.json").read_text()) | {"layers": 2}


def test_a_run_may_go_on_longer_but_not_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    assert train(*SMALL, "--epochs", "1") == 0
    assert train(*SMALL, "--epochs", "2", "--runs", "whole") == 0
    run = only_run()
    assert train("--resume", str(run), "--hidden-size", "13") == 2
    assert "[resume] --hidden-size was 12, got 13: these cannot change in a run" in capsys.readouterr().err
    assert train("--resume", str(run)) == 0
    assert "already at its end" in capsys.readouterr().out
    assert train("--resume", str(run), "--epochs", "2") == 0
    assert (run / "model.safetensors").read_bytes() == (only_run("whole") / "model.safetensors").read_bytes()


def at_loss(monkeypatch: pytest.MonkeyPatch, number: int, act: object) -> None:
    """Do something in the middle of training step `number`."""
    before, seen = task.loss, []

    def loss(config: object, network: object, batch: object, carried: object) -> object:
        seen.append(network.training)  # type: ignore[attr-defined]
        if sum(seen) == number and network.training:  # type: ignore[attr-defined]
            act()  # type: ignore[operator]
        return before(config, network, batch, carried)  # type: ignore[arg-type]

    monkeypatch.setattr(task, "loss", loss)


@pytest.mark.parametrize(("number", "times"), [(signal.SIGINT, 1), (signal.SIGTERM, 2)], ids=["SIGINT", "SIGTERM"])
def test_interrupt_saves_and_resume_goes_on_exactly(
    number: signal.Signals, times: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert train(*SMALL, "--epochs", "2", "--runs", "whole") == 0
    capsys.readouterr()
    with monkeypatch.context() as patch:
        at_loss(patch, 13, lambda: [os.kill(os.getpid(), number) for _ in range(times)])
        assert train(*SMALL, "--epochs", "2") == 128 + number
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    run = only_run()
    said = capsys.readouterr().err
    assert said == (
        f"conveyor: [train] stopped at step 13 of {2 * steps_an_epoch()}; what was learned is in {run}; "
        f"go on with: conveyor train language-model --resume {run}\n"
    )
    assert main(["predict", str(run), "1 and", "--length", "3"]) == 0
    assert train("--resume", str(run)) == 0
    assert (run / "model.safetensors").read_bytes() == (only_run("whole") / "model.safetensors").read_bytes()


def steps_an_epoch() -> int:
    rows = history.read(only_run("whole") / "metrics.csv")
    return int(rows[-1]["step"]) // 2


def test_full_disk_keeps_the_checkpoint(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert train(*SMALL, "--epochs", "2", "--runs", "whole") == 0
    capsys.readouterr()

    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        at_loss(patch, 12, lambda: patch.setattr(os, "fsync", full))
        assert train(*SMALL, "--epochs", "2", "--save-steps", "5") == 2
    run = only_run()
    last = checkpoint.last(run)
    assert capsys.readouterr().err == (
        f"conveyor: [write] {last}: No space left on device; the earlier file is unharmed; "
        "make room; a training goes on with --resume\n"
    )
    assert [file.name for file in last.parent.iterdir()] == [last.name]
    assert train("--resume", str(run)) == 0
    assert (run / "model.safetensors").read_bytes() == (only_run("whole") / "model.safetensors").read_bytes()


def test_diverging_training_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    options = [*SMALL, "--optimizer", "sgd", "--learning-rate", "1e39", "--clip-norm", "None", "--log-every", "1"]
    assert train(*options) == 2
    assert re.fullmatch(
        r"conveyor: \[train\] step \d: the loss is no longer a finite number; .*\n", capsys.readouterr().err
    )


def test_damaged_checkpoint_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert train(*SMALL, "--epochs", "1") == 0
    run = only_run()
    last = checkpoint.last(run)
    last.write_bytes(last.read_bytes()[:-5])
    capsys.readouterr()
    assert train("--resume", str(run), "--epochs", "2") == 2
    assert capsys.readouterr().err.startswith(f"conveyor: [resume] {last}: expected a safetensors file, but it is")


def test_a_run_without_its_checkpoint_keeps_its_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert train(*SMALL, "--epochs", "1") == 0
    run = only_run()
    model = (run / "model.safetensors").read_bytes()
    checkpoint.last(run).unlink()
    before = sorted(run.iterdir())
    capsys.readouterr()
    assert train("--resume", str(run), "--epochs", "3") == 2
    assert capsys.readouterr().err.startswith(f"conveyor: [resume] {checkpoint.last(run)} is missing, and training")
    assert (run / "model.safetensors").read_bytes() == model
    assert json.loads((run / "config.json").read_text())["training"]["epochs"] == 1
    assert sorted(run.iterdir()) == before


def test_a_run_goes_on_without_its_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    assert train(*SMALL, "--epochs", "1") == 0
    (only_run() / "metrics.csv").unlink()
    assert train("--resume", str(only_run())) == 0
    assert train("--resume", str(only_run()), "--epochs", "2") == 0
    assert min(row["epoch"] for row in history.read(only_run() / "metrics.csv")) > 1


def test_a_run_is_used_from_anywhere(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(*SMALL, "--epochs", "1") == 0
    run = str(only_run().absolute())
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert main(["evaluate", run]) == 0
    assert train("--resume", run, "--epochs", "2") == 0

    moved = (here / "text.txt").rename("moved.txt")
    capsys.readouterr()
    assert train("--resume", run, "--epochs", "3") == 2
    assert "check the path given to --data" in capsys.readouterr().err
    assert train("--resume", run, "--epochs", "3", "--data", str(moved)) == 0
    assert json.loads(Path(run, "config.json").read_text())["reading"]["data"] == [str(moved.absolute())]
    assert main(["evaluate", run]) == 0

    moved.write_text("another text, " * 1000)
    capsys.readouterr()
    assert train("--resume", run, "--epochs", "4") == 2
    assert "the text is not the one this run was trained on" in capsys.readouterr().err
