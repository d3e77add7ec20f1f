"""The mean of the weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from conveyor.tasks import language_model as task
from conveyor.training.averaging import Average
from conveyor.training.fit import fit, train
from conveyor.training.options import ReadingOptions, TrainingOptions
from conveyor.training.resume import MAY_DIFFER


def mean_of(options: TrainingOptions, values: list[float]) -> float:
    network = nn.Linear(1, 1, bias=False)
    average = Average.of(options, network)
    assert average
    for value in values:
        nn.init.constant_(network.weight, value)
        average.update(network)
    return average.network.weight.item()


def test_trigger_is_the_mean() -> None:
    assert mean_of(TrainingOptions(average="trigger"), [1.0, 2.0, 6.0]) == pytest.approx(3.0)


def test_ema_forgets() -> None:
    # torch begins with the first weights as they are
    assert mean_of(TrainingOptions(average="ema", average_decay=0.5), [1.0, 2.0, 6.0]) == pytest.approx(3.75)


def test_none() -> None:
    assert Average.of(TrainingOptions(), nn.Linear(1, 1)) is None


@pytest.fixture
def config(tmp_path: Path) -> task.Config:
    (tmp_path / "text.txt").write_text("abcdefgh" * 50)
    reading = ReadingOptions(data=(f"{tmp_path}/text.txt",))
    training = TrainingOptions(batch_size=4, epochs=6, threads=1, learning_rate=1e-30, average="trigger")
    training.average_patience = 2
    return task.Config(reading=reading, hidden_size=4, embedding_size=3, sequence_length=8, training=training)


def test_trigger_waits_for_validation(config: task.Config, tmp_path: Path) -> None:
    """A rate too small to change any weight: only the first validation is better than the one before."""
    learner, _ = train(task, config, tmp_path / "run")
    assert learner.progress.averaging
    assert learner.average
    assert int(learner.average.mean.n_averaged) == 3 * learner.batches  # of epochs 4 to 6


def test_the_mean_is_what_is_kept(config: task.Config, tmp_path: Path) -> None:
    config.training.learning_rate, config.training.average = 0.01, "ema"
    model, figures = fit(task, config, tmp_path / "run")
    learner, _ = train(task, config, tmp_path / "again")
    assert learner.average
    kept, mean = model.network.state_dict(), learner.average.network.state_dict()
    assert all(torch.equal(kept[name], mean[name]) for name in kept)
    assert not torch.equal(kept["output.weight"], learner.network.state_dict()["output.weight"])
    assert figures["best_valid"] == learner.progress.best


def test_a_run_keeps_to_its_mean() -> None:
    assert not {"average", "average_decay", "average_patience"} & MAY_DIFFER
