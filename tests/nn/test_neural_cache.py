"""The neural cache against Grave et al.'s equations, written out word by word."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from conveyor.nn.neural_cache import NeuralCache
from conveyor.nn.softmaxes import IGNORE

T, B, H, V = 12, 2, 4, 5
THETA, SHARE = (0.0, 0.7), (0.0, 0.1, 0.4)


@pytest.fixture
def hidden() -> Tensor:
    return torch.randn(T, B, H, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def targets() -> Tensor:
    return torch.randint(0, V, (T, B), generator=torch.Generator().manual_seed(2))


@pytest.fixture
def model() -> Tensor:
    return torch.rand(T, B, generator=torch.Generator().manual_seed(3)) * 3


def by_hand(hidden: Tensor, targets: Tensor, model: Tensor, size: int, theta: float, share: float) -> Tensor:
    """(3) and (4), one step of one stream at a time."""
    nats = model.clone()
    for b in range(B):
        for t in range(1, T):
            before = range(max(0, t - size), t)
            weight = {i: math.exp(theta * float(hidden[t, b] @ hidden[i, b])) for i in before}
            same = sum(weight[i] for i in before if targets[i, b] == targets[t, b])
            cached = same / sum(weight.values())
            nats[t, b] = -math.log((1 - share) * math.exp(-model[t, b]) + share * cached)
    return nats


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize("window", [1, 5, 12])
def test_equations(size: int, window: int, hidden: Tensor, targets: Tensor, model: Tensor) -> None:
    """Whatever the windows, the memory goes on from one to the next."""
    cache = NeuralCache(size, THETA, SHARE)
    parts = [cache.nats(*part) for part in zip(*(x.split(window) for x in (hidden, targets, model)), strict=True)]
    got = torch.cat(parts, 2)
    assert got.shape == (len(THETA), len(SHARE), T, B)
    for k, theta in enumerate(THETA):
        for s, share in enumerate(SHARE):
            torch.testing.assert_close(got[k, s], by_hand(hidden, targets, model, size, theta, share))


def test_probabilities_add_up(hidden: Tensor, targets: Tensor) -> None:
    """Over all words that could come at the last step."""
    total = 0.0
    for word in range(V):
        targets[-1] = word
        nats = NeuralCache(6, (0.5,), (0.3,)).nats(hidden, targets, torch.full((T, B), math.log(V)))
        total += nats[0, 0, -1, 0].neg().exp().item()
    assert total == pytest.approx(1)


def test_what_is_ignored_costs_nothing(hidden: Tensor, targets: Tensor, model: Tensor) -> None:
    targets[-2:, 1] = IGNORE
    nats = NeuralCache(6, THETA, SHARE).nats(hidden, targets, model)
    assert (nats[:, :, -2:, 1] == 0).all()
    assert nats.isfinite().all()
