"""Heads of a forecast: losses and quantiles against scipy and against sums by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from conveyor.data.distributions import SMALLEST, Frame, Head, Quantiles, Transform, head_named, levels_of

LEVELS = (0.025, 0.1, 0.5, 0.9, 0.975)
FRAME = Frame(torch.tensor([[1.0], [2.0]]), torch.tensor([[0.5], [2.0]]), Transform("log1p", 0.0))
ANCHOR = torch.tensor([[0.3, -0.2, 0.1], [0.4, 0.5, -0.1]])
COUNTS = torch.tensor([[2.0, 0.0, 7.0], [40.0, 3.0, 11.0]])


def numbers(head: Head) -> Tensor:
    return torch.randn(2, 3, head.numbers, generator=torch.Generator().manual_seed(5)) / 3


def softplus(x: Tensor) -> np.ndarray:
    return np.log1p(np.exp(x.double().numpy()))


@pytest.mark.parametrize("kind", ["log", "log1p", "none"])
def test_transforms_go_back(kind: str) -> None:
    y = torch.tensor([0.25, 1.0, 1000.0])
    assert torch.allclose(Transform(kind, 0.1).out_of(Transform(kind, 0.1).into(y)), y, rtol=1e-5)
    assert torch.allclose(FRAME.y_of(FRAME.z_of(COUNTS)), COUNTS, atol=1e-4)
    assert Transform("log", 0.1).into(torch.tensor(-3.0)) == torch.tensor(0.1).log(), "below the floor is the floor"
    assert Transform("log", 0.1).out_of(torch.tensor(1e9)).isfinite()


def test_levels_of_intervals() -> None:
    assert levels_of((80, 95)) == (0.025, 0.1, 0.5, 0.9, 0.975)
    assert levels_of(()) == (0.5,)


def test_pinball_by_hand() -> None:
    """The median's 2 · ½ |e|, and the mean of 2 max(q e, (q - 1) e) of the others, times the scale."""
    head, step = Quantiles((0.1, 0.5, 0.9)), np.log(np.expm1([1.5, 0.25]))  # softplus makes them 1.5 and 0.25
    raw, y = torch.tensor([[[2.0, *step]]], dtype=torch.float32), torch.tensor([[3.0]])
    frame = Frame(torch.tensor([[0.0]]), torch.tensor([[2.0]]), Transform("none", 0.0))
    # z = 1.5, the guesses are 0.5, 2, 2.25: errors 1, -0.5, -0.75
    want = 0.5 + (2 * 0.1 * 1 + 2 * 0.1 * 0.75) / 2
    assert head.loss(raw, torch.zeros(1, 1), y, frame).item() == pytest.approx(2 * want)


def test_quantiles_are_in_order_and_drawn_between() -> None:
    head = Quantiles((0.05, 0.1, 0.5, 0.9, 0.95))
    frame = Frame(torch.zeros(1, 1), torch.ones(1, 1), Transform("none", 0.0))
    raw = torch.tensor([[[2.0, *np.log(np.expm1([1.0, 3.0, 2.0, 0.5]))]]], dtype=torch.float32)
    got = head.at((0.05, 0.1, 0.3, 0.5, 0.6, 0.9, 0.95), raw, torch.ones(1, 1), frame)
    assert got[0, 0].tolist() == pytest.approx([-1, 2, 2.5, 3, 3.5, 5, 5.5])
    assert head_named("point", LEVELS).at(LEVELS, raw[..., :1], torch.ones(1, 1), frame)[0, 0].tolist() == [3] * 5


@pytest.mark.parametrize("name", ["gaussian", "student-t"])
def test_normal_and_student(name: str) -> None:
    head = head_named(name, LEVELS)
    raw = numbers(head)
    location, spread = (ANCHOR + raw[..., 0]).double().numpy(), softplus(raw[..., 1]) + SMALLEST
    if name == "gaussian":
        witness = stats.norm(location, spread)
    else:
        witness = stats.t(2 + softplus(raw[..., 2]), location, spread)
    z = FRAME.z_of(COUNTS)
    assert np.allclose(head.loss(raw, ANCHOR, COUNTS, FRAME), -witness.logpdf(z.double().numpy()), rtol=1e-4)
    got = head.at(LEVELS, raw, ANCHOR, FRAME)
    for n, level in enumerate(LEVELS):
        want = FRAME.y_of(torch.from_numpy(witness.ppf(level)).float())
        assert torch.allclose(got[..., n], want, rtol=1e-4, atol=1e-5)


def test_negative_binomial() -> None:
    """Mean μ, variance μ + α μ²; quantiles are whole numbers."""
    head = head_named("negative-binomial", LEVELS)
    raw = numbers(head)
    mean = FRAME.y_of(ANCHOR + raw[..., 0]).double().numpy()
    alpha = softplus(raw[..., 1]) + 1e-4
    witness = stats.nbinom(1 / alpha, 1 / (1 + alpha * mean))
    assert np.allclose(witness.var(), mean + alpha * mean**2)
    assert np.allclose(head.loss(raw, ANCHOR, COUNTS, FRAME), -witness.logpmf(COUNTS.numpy()), rtol=1e-4)
    got = head.at(LEVELS, raw, ANCHOR, FRAME)
    assert np.array_equal(got.numpy(), np.stack([witness.ppf(level) for level in LEVELS], -1))


@pytest.mark.parametrize("name", ["point", "quantile", "gaussian", "student-t", "negative-binomial"])
def test_gradients_are_finite_far_out(name: str) -> None:
    head = head_named(name, LEVELS)
    raw = (100 * numbers(head)).requires_grad_()
    head.loss(raw, ANCHOR, COUNTS, FRAME).sum().backward()
    assert raw.grad is not None
    assert raw.grad.isfinite().all()
    assert raw.grad.abs().sum() > 0
