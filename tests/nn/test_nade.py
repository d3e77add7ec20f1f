"""NADE against its definition, key by key, and what makes it a distribution."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from conveyor.nn.nade import NADE, decided

Agree = Callable[[Tensor, Tensor], None]


def by_definition(nade: NADE, visible: Tensor, bias_v: Tensor, bias_h: Tensor) -> Tensor:
    """The equations, an entry after the other."""
    a, logits = bias_h, []
    for k in range(visible.shape[1]):
        logits.append(bias_v[:, k] + a.sigmoid() @ nade.weight_out[k])
        a = a + visible[:, k : k + 1] * nade.weight_in[k]
    return torch.stack(logits, 1)


def drawn(N: int, K: int, H: int, share: float = 0.3, seed: int = 0) -> tuple[NADE, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    nade = NADE(K, H).double()
    visible = (torch.rand(N, K, generator=generator) < share).double()
    biases = (torch.randn(N, n, generator=generator, dtype=torch.float64, requires_grad=True) for n in (K, H))
    return nade, visible, *biases


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize(("N", "K", "H"), [(1, 1, 1), (1, 88, 31), (7, 88, 32), (5, 2, 33), (0, 4, 3)])
def test_it_is_what_the_equations_say(agree: Agree, N: int, K: int, H: int, share: float) -> None:
    nade, visible, bias_v, bias_h = drawn(N, K, H, share)
    agree(nade(visible, bias_v, bias_h), by_definition(nade, visible, bias_v, bias_h))


def test_its_gradients_are_those_of_the_equations(agree: Agree) -> None:
    nade, visible, bias_v, bias_h = drawn(6, 20, 9)
    each = [*nade.parameters(), bias_v, bias_h]
    got, want = (
        torch.autograd.grad(binary_cross_entropy_with_logits(f(visible, bias_v, bias_h), visible), each)
        for f in (nade, partial(by_definition, nade))
    )
    for one, other in zip(got, want, strict=True):
        agree(one, other)


def test_the_probabilities_of_all_vectors_are_one() -> None:
    nade, _, bias_v, bias_h = drawn(1, 6, 5)
    every = torch.tensor(list(product([0.0, 1.0], repeat=6)), dtype=torch.float64)
    logits = nade(every, bias_v.expand(64, -1), bias_h.expand(64, -1))
    nats = binary_cross_entropy_with_logits(logits, every, reduction="none").sum(1)
    assert (-nats).exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_dropout_is_of_training_alone() -> None:
    nade, visible, bias_v, bias_h = drawn(4, 10, 50)
    plain = nade(visible, bias_v, bias_h)
    nade.dropout.p = 0.5
    assert not torch.equal(nade(visible, bias_v, bias_h), plain)
    assert torch.equal(nade.eval()(visible, bias_v, bias_h), plain)


@pytest.mark.parametrize("seed", range(5))
def test_decided_entry_by_entry(seed: int) -> None:
    """The same as going through the entries in order; strong weights, so that they depend on each other."""
    nade, visible, bias_v, bias_h = drawn(30, 12, 8, seed=seed)
    with torch.no_grad():
        nade.weight_in.mul_(20)
        nade.weight_out.mul_(20)
        threshold = torch.rand_like(visible).logit()
        want = torch.zeros_like(visible)
        for k in range(12):
            want[:, k] = by_definition(nade, want, bias_v, bias_h)[:, k] > threshold[:, k]
        got = decided(partial(nade, bias_v=bias_v, bias_h=bias_h), threshold)
    assert torch.equal(got, want)
    assert 0.1 < got.mean() < 0.9


def test_what_is_drawn_has_its_probability() -> None:
    """8 vectors of 3 entries, drawn 20,000 times."""
    nade, _, bias_v, bias_h = drawn(1, 3, 4)
    with torch.no_grad():
        nade.weight_in.mul_(5)
        nade.weight_out.mul_(5)
        many = partial(nade, bias_v=bias_v.expand(20_000, -1), bias_h=bias_h.expand(20_000, -1))
        generator = torch.Generator().manual_seed(0)
        u = torch.rand(20_000, 3, generator=generator, dtype=torch.float64)
        count = torch.bincount((decided(many, u.logit()) @ torch.tensor([4.0, 2, 1]).double()).long(), minlength=8)
        every = torch.tensor(list(product([0.0, 1.0], repeat=3)), dtype=torch.float64)
        logits = nade(every, bias_v.expand(8, -1), bias_h.expand(8, -1))
        p = (-binary_cross_entropy_with_logits(logits, every, reduction="none").sum(1)).exp()
    assert (count / 20_000).tolist() == pytest.approx(p.tolist(), abs=0.015)
