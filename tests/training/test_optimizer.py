"""Learning rates by hand, and optimizers that are the ones they are called."""

from __future__ import annotations

import pytest
import torch

from conveyor.training.optimizer import learning_rate, make
from conveyor.training.options import TrainingOptions


def rates(epochs: int = 7, **options: object) -> list[float]:
    chosen = TrainingOptions(learning_rate=1.0, epochs=epochs, **options)  # type: ignore[arg-type]
    return [learning_rate(chosen, epoch, epoch / epochs, reductions=epoch // 3) for epoch in range(epochs)]


def test_courses() -> None:
    assert rates() == [1.0] * 7
    # Zaremba et al. 2014, small: halved each epoch after the 4th
    assert rates(schedule="decay", decay_factor=0.5, decay_after=4) == [1, 1, 1, 1, 0.5, 0.25, 0.125]
    assert rates(epochs=4, schedule="cosine") == pytest.approx([1, 0.853553, 0.5, 0.146447], rel=1e-5)
    assert rates(schedule="plateau", decay_factor=0.1) == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01])


def test_first_steps() -> None:
    """The first step from w = 1 with gradient 2: by each method's own formula."""
    expected = {
        "sgd": 1 - 0.1 * 2,
        "adam": 1 - 0.1,  # the bias-corrected ratio is 1
        "adamw": 1 - 0.1,
        "rmsprop": 1 - 0.1 * 2 / (0.05 * 4) ** 0.5,
    }
    for name, value in expected.items():
        weight = torch.nn.Parameter(torch.ones(3))
        weight.grad = torch.full((3,), 2.0)
        options = TrainingOptions(optimizer=name, learning_rate=0.1, smoothing=0.95)  # type: ignore[arg-type]
        make(options, [weight]).step()
        assert weight.tolist() == pytest.approx([value] * 3, rel=1e-5), name
