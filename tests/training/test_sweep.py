"""A search for options."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from conveyor.cli import main
from conveyor.errors import ConveyorError
from conveyor.training.sweep import Between, Choice, parse


def test_space() -> None:
    assert parse("hidden-size=8,16") == ("hidden-size", Choice(("8", "16")))
    assert parse("--hidden-size=8..16") == ("hidden-size", Between(8, 16))
    assert parse("dropout=-0.5..5e-1") == ("dropout", Between(-0.5, 0.5))
    for wrong in ("hidden-size", "=3", "a=1..", "a=2..1", "a=1,,2", "a=x..y", "a=1..inf"):
        with pytest.raises(ConveyorError, match=r"expected OPTION=A,B,C or OPTION=LOW\.\.HIGH, LOW below HIGH, got"):
            parse(wrong)


def search(run: Path, trials: int, *space: str) -> int:
    options = ["--smoke", "--threads", "1", "--epochs", "1", "--run", str(run), "--trials", str(trials)]
    return main(["train", "language-model", *options, "--sweep", *space])


def table(run: Path) -> list[dict[str, str]]:
    with (run / "trials.csv").open() as stream:
        return [*csv.DictReader(stream)]


def test_the_best_validation_wins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    space = ("learning-rate=1e-3..1e-1", "hidden-size=8,16", "layers=1..2", "tied=false")
    assert search(run, 2, *space) == 0
    assert search(run, 3, *space) == 0  # goes on: a third
    rows = table(run)
    assert [row["state"] for row in rows] == ["complete"] * 3
    assert len({row["learning-rate"] for row in rows}) == 3
    best = min(rows, key=lambda row: float(row["valid"]))
    options = json.loads((run / "best.json").read_text())
    assert options["training"]["learning_rate"] == pytest.approx(float(best["learning-rate"]))
    assert options["hidden_size"] == int(best["hidden-size"])
    assert not [*run.glob("trial-*/scores.json")]  # the test part is not looked at
    capsys.readouterr()
    assert main(["train", "language-model", "--config", str(run / "best.json"), "--run", str(tmp_path / "final")]) == 0
    lines = (tmp_path / "final" / "metrics.csv").read_text()
    assert best["valid"][:12] in lines


def test_a_trial_that_fails_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert search(tmp_path / "run", 4, "batch-size=8,4000") == 0
    states = {row["batch-size"]: row["state"] for row in table(tmp_path / "run")}
    assert states == {"8": "complete", "4000": "fail"}
    assert search(tmp_path / "none", 1, "batch-size=4000") == 2
    assert "no trial came to its end" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("hiden-size=1,2", "unknown option --hiden-size; did you mean --hidden-size?"),
        ("hidden-size=0..2", "--hidden-size: expected a whole number from 1"),
        ("tokens=char,letter", "invalid choice 'letter'"),
    ],
)
def test_mistakes_are_told_before_the_first_trial(
    space: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search(tmp_path / "run", 2, space) == 2
    assert message in capsys.readouterr().err
    assert not [*(tmp_path / "run").glob("trial-*")]
