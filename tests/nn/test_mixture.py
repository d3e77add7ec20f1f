"""Mixture densities: they integrate to 1, agree with torch's distributions, and stay finite."""

import math

import pytest
import torch
from torch import distributions as d

from conveyor.nn.mixture import DiagonalMixture, PenMixture


def test_the_pens_density_integrates_to_one() -> None:
    torch.manual_seed(0)
    head = PenMixture(4, 3).double()
    features = torch.randn(4).double()
    side = torch.linspace(-12, 12, 1201, dtype=torch.float64)
    x, y = torch.meshgrid(side, side, indexing="ij")
    total = 0.0
    for end in (0.0, 1.0):
        points = torch.stack([x, y, torch.full_like(x, end)], -1)
        with torch.no_grad():
            total += (
                float((-head.nats(features.expand(*x.shape, -1), points)).exp().sum()) * float(side[1] - side[0]) ** 2
            )
    assert total == pytest.approx(1, abs=1e-6)


def test_the_pens_density_is_torchs() -> None:
    torch.manual_seed(1)
    head, features, points = PenMixture(5, 4).double(), torch.randn(7, 5).double(), torch.randn(7, 3).double()
    points[:, 2] = (points[:, 2] > 0).double()
    pen = head(features)
    rho, deviation = pen.turn.tanh(), pen.logs.exp()
    across = rho * deviation[..., 0] * deviation[..., 1]
    covariance = torch.stack(
        [torch.stack([deviation[..., 0] ** 2, across], -1), torch.stack([across, deviation[..., 1] ** 2], -1)], -2
    )
    mixture = d.MixtureSameFamily(d.Categorical(logits=pen.weights), d.MultivariateNormal(pen.means, covariance))
    expected = mixture.log_prob(points[:, :2]) + d.Bernoulli(logits=pen.end).log_prob(points[:, 2])
    torch.testing.assert_close(head.nats(features, points), -expected)


def test_the_diagonal_density_is_torchs_and_integrates_to_one() -> None:
    torch.manual_seed(2)
    head, features, y = DiagonalMixture(5, 3, 4).double(), torch.randn(7, 5).double(), torch.randn(7, 3).double()
    weights, means, logs = head._parts(features)
    mixture = d.MixtureSameFamily(d.Categorical(logits=weights), d.Independent(d.Normal(means, logs.exp()), 1))
    torch.testing.assert_close(head.nats(features, y), -mixture.log_prob(y))
    line = DiagonalMixture(5, 1, 4).double()
    side = torch.linspace(-15, 15, 3001, dtype=torch.float64)[:, None]
    with torch.no_grad():
        total = (-line.nats(features[:1].expand(3001, -1), side)).exp().sum() * 0.01
    assert float(total) == pytest.approx(1, abs=1e-6)


def test_extremes_stay_finite() -> None:
    """Correlations of almost 1, deviations of almost nothing, points far away; and so do their gradients."""
    head = PenMixture(1, 2)
    with torch.no_grad():
        head.output.weight.zero_()
        head.output.bias.copy_(torch.tensor([50.0, -50, 3, -3, 0, 0, -90, 5, 5, -90, 9, -9, 40.0]))
    points = torch.tensor([[0.0, 0, 1], [1e3, -1e3, 0]])
    nats = head.nats(torch.ones(2, 1), points)
    nats.sum().backward()
    assert nats.isfinite().all()
    assert head.output.bias.grad is not None
    assert head.output.bias.grad.isfinite().all()


def test_draws_are_those_of_the_density() -> None:
    torch.manual_seed(3)
    head, features = PenMixture(4, 3), torch.randn(1, 4).expand(40_000, -1)
    with torch.no_grad():
        drawn, pen = head.sample(features), head(features[:1])
    mean = (pen.weights.exp()[..., None] * pen.means).sum(-2)[0]
    assert drawn[:, :2].mean(0) == pytest.approx(mean, abs=0.05)
    assert float(drawn[:, 2].mean()) == pytest.approx(float(pen.end[0].detach().sigmoid()), abs=0.02)
    with torch.no_grad():
        calm = head.sample(features, bias=3.0)
    assert calm[:, :2].std(0).max() < drawn[:, :2].std(0).min() + 1
    with torch.no_grad():
        assert head.nats(features, calm).mean() < head.nats(features, drawn).mean()
        shaken = head.sample(features, bias=9.0, least=0.5)
    assert math.isfinite(float(calm.sum()))
    assert shaken[:, :2].std(0).min() > 0.49
