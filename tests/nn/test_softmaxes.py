"""Output layers: proper probabilities, and the same by way of the loss alone; derivatives; what is ignored."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, softmax

from conveyor.errors import ConveyorError
from conveyor.nn.ensemble import MeanOfSoftmaxes
from conveyor.nn.softmaxes import (
    IGNORE,
    AdaptiveSoftmax,
    MixtureOfSoftmaxes,
    Softmax,
    linear_nats,
    output_layer,
)

T, B, H, E, V = 4, 3, 32, 5, 13
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "softmax": lambda: Softmax(H, V),
    "mixture": lambda: MixtureOfSoftmaxes(H, E, V, 3),
    "adaptive": lambda: AdaptiveSoftmax(H, V, [4, 9]),
    "mean": lambda: MeanOfSoftmaxes([Softmax(H // 2, V), AdaptiveSoftmax(H // 2, V, [2])]),
}


@pytest.fixture
def targets() -> Tensor:
    found = torch.randint(0, V, (T, B), generator=torch.Generator().manual_seed(1))
    found[2, 1] = IGNORE
    return found


@pytest.fixture
def hidden() -> Tensor:
    return torch.randn(T, B, H, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("kind", LAYERS)
def test_both_ways_are_one(kind: str, hidden: Tensor, targets: Tensor) -> None:
    """The loss of the targets, and its gradients, are those of the full probabilities."""
    torch.manual_seed(3)
    layer, weights = LAYERS[kind](), torch.rand(T, B)
    hidden.requires_grad_()
    logits = layer(hidden)
    assert logits.shape == (T, B, V)
    want = cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="none").view(T, B)
    got = layer.nats(hidden, targets)  # type: ignore[operator]
    torch.testing.assert_close(got, want)
    assert got[2, 1] == 0
    parameters = [hidden, *layer.parameters()]
    for mine, full in zip(*(torch.autograd.grad((x * weights).sum(), parameters) for x in (got, want)), strict=True):
        torch.testing.assert_close(mine, full)


@pytest.mark.parametrize("kind", ["mixture", "adaptive", "mean"])
def test_log_probabilities_add_up(kind: str, hidden: Tensor) -> None:
    torch.testing.assert_close(LAYERS[kind]()(hidden).exp().sum(-1), torch.ones(T, B))


def test_mixture_by_hand(hidden: Tensor) -> None:
    """Yang et al. 2018, (2), a part after the other."""
    torch.manual_seed(4)
    layer = MixtureOfSoftmaxes(H, E, V, 3)
    shares = softmax(linear(hidden, layer.prior.weight), -1)
    p = torch.zeros(T, B, V)
    for k in range(3):
        rows = slice(k * E, (k + 1) * E)
        features = torch.tanh(linear(hidden, layer.latent.weight[rows], layer.latent.bias[rows]))
        p += shares[..., k : k + 1] * softmax(linear(features, layer.weight, layer.bias), -1)
    torch.testing.assert_close(layer(hidden).exp(), p)


def test_mean_by_hand(hidden: Tensor) -> None:
    layers = [Softmax(H // 2, V), Softmax(H // 2, V)]
    p = [softmax(layer(half), -1) for layer, half in zip(layers, hidden.chunk(2, -1), strict=True)]
    torch.testing.assert_close(MeanOfSoftmaxes(layers)(hidden).exp(), (p[0] + p[1]) / 2)


def test_derivatives_by_finite_differences(targets: Tensor) -> None:
    torch.manual_seed(5)
    h, w, b = (torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((T, B, H), (V, H), (V,)))
    assert torch.autograd.gradcheck(lambda *of: linear_nats(*of, targets), (h, w, b))


def test_a_target_of_no_probability() -> None:
    """e^-1000 is zero to float32, its logarithm is not."""
    weight, bias = torch.zeros(3, 2), torch.tensor([0.0, 1000.0, 999.0])
    nats = linear_nats(torch.zeros(1, 2), weight, bias, torch.tensor([0]))
    assert nats.item() == pytest.approx(1000.3133, rel=1e-6)


def test_bfloat16_keeps_what_counts_in_float32(hidden: Tensor, targets: Tensor) -> None:
    """Losses and gradients of the weights come out float32, and differ from float32's by rounding alone."""
    torch.manual_seed(6)
    layer = Softmax(H, V)
    with torch.autocast("cpu", torch.bfloat16):
        short = layer.nats(hidden, targets)
    exact = layer.nats(hidden, targets)
    assert short.dtype is torch.float32
    torch.testing.assert_close(short, exact, rtol=0.02, atol=0.02)
    for mine, full in zip(*(torch.autograd.grad(x.sum(), [*layer.parameters()]) for x in (short, exact)), strict=True):
        assert mine.dtype is torch.float32
        torch.testing.assert_close(mine, full, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("kind", ["mixture", "adaptive"])
def test_all_train_in_bfloat16(kind: str, hidden: Tensor, targets: Tensor) -> None:
    torch.manual_seed(7)
    layer = LAYERS[kind]()
    with torch.autocast("cpu", torch.bfloat16):
        short = layer.nats(hidden.bfloat16(), targets)  # type: ignore[operator]
    torch.testing.assert_close(short, layer.nats(hidden, targets), rtol=0.03, atol=0.03)  # type: ignore[operator]


def test_nothing_but_ignored() -> None:
    targets = torch.full((2, 1), IGNORE)
    for make in LAYERS.values():
        assert make().nats(torch.randn(2, 1, H), targets).tolist() == [[0], [0]]  # type: ignore[operator]


def test_the_layer_the_options_ask_for() -> None:
    assert type(output_layer(H, E, V)) is Softmax
    mixture = output_layer(H, E, V, parts=2)
    assert isinstance(mixture, MixtureOfSoftmaxes)
    assert mixture.weight.shape == (V, E)
    assert isinstance(output_layer(H, E, V, cutoffs=[5, V - 1]), AdaptiveSoftmax)
    with pytest.raises(ConveyorError, match=r"--cutoffs: expected numbers below 13, the words there are, got 13"):
        output_layer(H, E, V, cutoffs=[5, V])
