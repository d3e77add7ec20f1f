"""The course of a training: carried state, learning rate, and what ends it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from conveyor.tasks import language_model as task
from conveyor.training import history
from conveyor.training.fit import fit
from conveyor.training.options import ReadingOptions, TrainingOptions


@pytest.fixture
def config(tmp_path: Path) -> task.Config:
    """10 batches an epoch, a line of metrics each step."""
    (tmp_path / "text.txt").write_text("abcdefgh" * 50)
    options = TrainingOptions(batch_size=4, epochs=3, log_every=1, threads=1)
    return task.Config(
        reading=ReadingOptions(data=(f"{tmp_path}/text.txt",)),
        hidden_size=4,
        embedding_size=3,
        sequence_length=8,
        training=options,
    )


def train(config: task.Config, run: Path, **training: Any) -> list[history.Row]:
    fit(task, dataclasses.replace(config, training=dataclasses.replace(config.training, **training)), run)
    return history.read(run / "metrics.csv")


def test_state_is_carried_within_an_epoch(config: task.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, began_anew = task.loss, []

    def loss(config: task.Config, network: Any, batch: Any, carried: Any) -> Any:
        if network.training:
            began_anew.append(carried is None)
        return before(config, network, batch, carried)

    monkeypatch.setattr(task, "loss", loss)
    train(config, tmp_path / "run", validate_every=4)
    assert began_anew == ([True] + [False] * 9) * 3


def test_learning_rate_of_each_step(config: task.Config, tmp_path: Path) -> None:
    rows = train(config, tmp_path / "run", learning_rate=0.01, schedule="decay", decay_factor=0.1, decay_after=2)
    rates = [row["learning_rate"] for row in rows if "train_loss" in row]
    assert rates == pytest.approx([0.01] * 20 + [0.001] * 10)


def test_patience(config: task.Config, tmp_path: Path) -> None:
    """A rate too small to change any weight: the second and third validation are no better."""
    rows = train(config, tmp_path / "run", learning_rate=1e-30, validate_every=3, patience=2)
    assert [row["step"] for row in rows if "valid_loss" in row] == [3, 6, 9]


def test_steps_and_minutes_end_it_with_a_validation(config: task.Config, tmp_path: Path) -> None:
    assert [row["step"] for row in train(config, tmp_path / "steps", max_steps=13) if "valid_loss" in row] == [10, 13]
    assert [row["step"] for row in train(config, tmp_path / "time", max_minutes=1e-9) if "valid_loss" in row] == [1]
