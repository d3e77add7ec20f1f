"""The range test of the learning rate."""

from __future__ import annotations

from pathlib import Path

import pytest

from conveyor.cli import main
from conveyor.tasks import language_model as task
from conveyor.training import rates


def test_a_rate_that_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    command = ["train", "language-model", "--smoke", "--threads", "1", "--run", str(run)]
    assert main([*command, "--find-lr"]) == 0
    said = capsys.readouterr().out
    rate = float(said.partition("--learning-rate ")[2].split(";")[0])
    assert 1e-3 < rate < 0.5
    lines = (run / "rates.csv").read_text().splitlines()
    assert lines[0] == "learning_rate,loss"
    assert float(lines[1].split(",")[0]) == pytest.approx(rates.LOW)
    assert (run / "rates.png").stat().st_size > 5000
    assert not (run / "model.json").exists()


def test_weights_that_are_no_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = task.smoke(tmp_path).config
    before = task.loss
    monkeypatch.setattr(task, "loss", lambda *call: before(*call)._replace(loss=before(*call).loss * float("nan")))
    with pytest.raises(rates.ConveyorError, match="the loss leaps or is no number at step 0"):
        rates.find_rate(task, config, tmp_path / "run")  # type: ignore[arg-type]


def test_not_beside_another_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "language-model", "--find-lr", "--sweep", "layers=1,2"]) == 2
    assert "--find-lr and --sweep: expected one of them alone" in capsys.readouterr().err
