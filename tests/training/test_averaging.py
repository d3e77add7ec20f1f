"""The mean of the weights: when it begins, and of what it is the mean."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from conveyor.tasks import language_model as task
from conveyor.training.averaging import Average
from conveyor.training.fit import fit
from conveyor.training.learner import Learner
from conveyor.training.options import ReadingOptions, TrainingOptions


def test_trigger_is_the_mean_of_all_steps_since() -> None:
    network = nn.Linear(1, 1, bias=False)
    average = Average.of(TrainingOptions(average="trigger"), network)
    assert average is not None
    for weight in (2.0, 4.0, 9.0):
        nn.init.constant_(network.weight, weight)
        average.update(network)
    assert average.network.weight.item() == pytest.approx(5.0)  # type: ignore[union-attr, operator]


def test_ema_forgets() -> None:
    network = nn.Linear(1, 1, bias=False)
    average = Average.of(TrainingOptions(average="ema", average_decay=0.9), network)
    assert average is not None
    for weight in (2.0, 4.0, 9.0):
        nn.init.constant_(network.weight, weight)
        average.update(network)
    assert average.network.weight.item() == pytest.approx(0.9 * (0.9 * 2 + 0.1 * 4) + 0.1 * 9)  # type: ignore[union-attr, operator]


def test_trigger_waits_until_validation_gets_no_better(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NT-ASGD: plain SGD up to there; from there on the kept network is the mean over steps, tied weights still one."""
    (tmp_path / "text.txt").write_text("abcdefgh" * 50)
    config = task.Config(
        reading=ReadingOptions(data=(f"{tmp_path}/text.txt",)),
        training=TrainingOptions(
            batch_size=4,
            epochs=6,
            optimizer="sgd",
            learning_rate=1e-30,
            average="trigger",
            average_patience=2,
            threads=1,
        ),
        hidden_size=4,
        embedding_size=4,
        tied=True,
        sequence_length=8,
    )
    learners: list[Learner] = []
    before, began = Learner.begin_averaging, []

    def begin(self: Learner) -> None:
        learners.append(self)
        before(self)
        began.append(self.progress.averaging)

    monkeypatch.setattr(Learner, "begin_averaging", begin)
    fit(task, config, tmp_path / "run")
    assert began == [False, False, True, True, True, True]  # the first validation is the best, two are no better
    learner = learners[-1]
    assert learner.average is not None
    assert learner.average.mean.n_averaged.item() == 3 * learner.batches
    assert learner.best is learner.average.network
    mean = learner.average.network
    assert isinstance(mean, task.Network)
    assert mean.output.weight is mean.embedding.weight
    assert dataclasses.asdict(learner.progress)["averaging"]
    torch.testing.assert_close(mean.embedding.weight, learner.network.embedding.weight)  # type: ignore[union-attr]
