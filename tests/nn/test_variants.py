"""`LSTM(variant=…)`: what holds for the layer holds for every variant of it."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from conveyor import LSTM, VARIANTS, Variant, explain, replace, restore

NAMES = list(VARIANTS)
DRAWN = [name for name, of in VARIANTS.items() if of.noise or of.weight_dropout]


def layer(name: str | Variant, **options: Any) -> LSTM:
    torch.manual_seed(0)
    return LSTM(5, 7, num_layers=2, bidirectional=True, variant=name, **options)


@pytest.mark.parametrize("name", NAMES)
def test_runs_on_the_kernels_as_by_the_equations(name: str) -> None:
    lstm, wide = layer(name), layer(name).double()
    wide.load_state_dict(lstm.state_dict())
    x, lengths, resets = torch.randn(9, 3, 5), torch.tensor([9, 0, 4]), torch.rand(9, 3) < 0.2
    calls = explain(lstm, x)
    assert {call.path for call in calls} == {"kernels"}
    results = []
    for module in (lstm, wide):
        torch.manual_seed(3)  # what is drawn
        input = x.detach().to(module.weight_ih_l0.dtype, copy=True).requires_grad_()
        output, (h_n, c_n), gates = module(input, lengths=lengths, resets=resets, return_gates=True)
        (output.sum() + sum(gate.f.sum() + gate.c.sum() for gate in gates)).backward()
        results.append([output, h_n, c_n, input.grad, *(p.grad for p in module.parameters())])
    for got, want in zip(*results, strict=True):
        assert (got.double() - want).abs().max() <= 2e-5 * want.abs().max().clamp(min=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_gives_what_the_whole_gives(name: str) -> None:
    lstm, x = LSTM(5, 7, num_layers=2, variant=name).eval(), torch.randn(9, 3, 5)
    whole, (h_n, c_n) = lstm(x)
    first, states = lstm(x[:4])
    second, (h, c) = lstm(x[4:], states)
    assert torch.equal(torch.cat([first, second]), whole)
    assert torch.equal(h, h_n) and torch.equal(c, c_n)  # noqa: PT018


@pytest.mark.parametrize("name", NAMES)
def test_first_and_second_derivatives(name: str) -> None:
    torch.manual_seed(0)
    lstm = LSTM(2, 3, variant=name, dtype=torch.float64).eval()
    x = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    weights = [w.detach().requires_grad_() for w in lstm.parameters()]
    names = [key for key, _ in lstm.named_parameters()]

    def run(x: Tensor, *weights: Tensor) -> Tensor:
        return functional_call(lstm, dict(zip(names, weights, strict=True)), (x,))[0]

    assert torch.autograd.gradcheck(run, (x, *weights))
    assert torch.autograd.gradgradcheck(run, (x, *weights))


@pytest.mark.parametrize("name", ["peephole", "layer-norm", "full-gate-recurrence"])
def test_gradient_penalties_on_the_kernels(name: str) -> None:
    lstm, wide, x = layer(name), layer(name).double(), torch.randn(5, 2, 5)
    found = []
    for module in (lstm, wide):
        input = x.detach().to(module.weight_ih_l0.dtype, copy=True).requires_grad_()
        (dx,) = torch.autograd.grad(module(input)[0].square().sum(), input, create_graph=True)
        dx.square().sum().backward()
        found.append([p.grad for p in module.parameters()])
    for got, want in zip(*found, strict=True):
        assert (got.double() - want).abs().max() <= 1e-4 * want.abs().max().clamp(min=1e-3)


@pytest.mark.parametrize("name", ["peephole", "coupled", "layer-norm", "zoneout"])
def test_gradients_of_each_sample(name: str) -> None:
    lstm, x = LSTM(5, 7, variant=name).eval(), torch.randn(4, 6, 1, 5)
    weights = dict(lstm.named_parameters())

    def loss(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(lstm, weights, (x,))[0].square().sum()

    together = vmap(grad(loss), in_dims=(None, 0))(weights, x)
    for n in range(4):
        alone = grad(loss)(weights, x[n])
        assert all(torch.allclose(together[key][n], alone[key], atol=1e-5) for key in alone)


@pytest.mark.parametrize("name", ["peephole", "layer-norm", "full-gate-recurrence"])
def test_bfloat16_is_close(name: str) -> None:
    lstm, x = layer(name), torch.randn(9, 3, 5)
    want = lstm(x)[0]
    with torch.autocast("cpu"):
        got = lstm(x)[0]
    assert got.dtype is torch.bfloat16
    assert (got.float() - want).abs().max() < 0.1
    got.float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in lstm.parameters())


@pytest.mark.parametrize("name", ["layer-norm", "zoneout"])
def test_compiles_whole(name: str) -> None:
    lstm, x = LSTM(5, 7, variant=name), torch.randn(9, 3, 5)
    compiled = torch.compile(lstm, fullgraph=True)
    compiled(x)[0].sum().backward()
    lstm.eval()
    assert torch.equal(compiled(x)[0], lstm(x)[0])


@pytest.mark.parametrize("name", NAMES)
def test_checkpoints_compute_the_same(name: str) -> None:
    grads = []
    for every in (1, 3):
        lstm = layer(name, checkpoint_every=every)
        torch.manual_seed(3)
        lstm(torch.ones(10, 2, 5))[0].sum().backward()
        grads.append([p.grad for p in lstm.parameters()])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*grads, strict=True))


@pytest.mark.parametrize("name", DRAWN)
def test_draws_in_training_alone(name: str) -> None:
    lstm, x = layer(name), torch.randn(9, 3, 5)
    assert not torch.equal(lstm(x)[0], lstm(x)[0])
    lstm.eval()
    assert torch.equal(lstm(x)[0], lstm(x)[0])


def test_zoneout_keeps_units_at_its_rate() -> None:
    lstm = LSTM(3, 200, variant=Variant(zoneout_cell=0.3, zoneout_hidden=0.6))
    output, _, (gates,) = lstm(torch.randn(60, 20, 3), return_gates=True)
    for states, rate in [(gates.c, 0.3), (output, 0.6)]:
        assert (states[1:] == states[:-1]).float().mean().item() == pytest.approx(rate, abs=0.01)


def test_a_tiny_rate_drops_next_to_nothing() -> None:
    lstm, x = LSTM(3, 50, variant=Variant(recurrent_dropout=5e-6, variational_dropout=5e-6)), torch.randn(9, 4, 3)
    with torch.no_grad():
        assert (lstm(x)[0] - lstm.eval()(x)[0]).abs().max() < 0.05
        assert lstm(x)[0].abs().min() > 0


def test_a_missing_gate_has_no_weights() -> None:
    assert LSTM(3, 4, variant="coupled").weight_ih_l0.shape == (12, 3)
    assert LSTM(3, 4, variant="full-gate-recurrence").weight_gh_l0.shape == (12, 12)
    assert dict(LSTM(3, 4, variant="layer-norm").named_parameters())["norm_ih_l0"].tolist() == [1.0] * 16


def test_forget_bias_finds_its_gate() -> None:
    lstm = LSTM(3, 4, variant=Variant(input_gate=False, forget_bias=2.0))
    assert lstm.bias_ih_l0[:4].tolist() == [2.0] * 4


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"variant: expected one of .* did you mean peephole\?"):
        LSTM(3, 4, variant="peepholes")
    with pytest.raises(TypeError, match="variant: expected a name or a Variant, got int"):
        LSTM(3, 4, variant=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="proj_clip=None without proj_size"):
        LSTM(3, 4, variant=Variant(proj_clip=1.0))
    with pytest.raises(ValueError, match="zoneout_hidden=0 with a projection"):
        LSTM(3, 4, proj_size=2, variant="zoneout")
    with pytest.raises(RuntimeError, match=r"h_0: expected \[L\*D, B, H \+ 3H\] = \[1, 2, 16\], got \[1, 2, 4\]"):
        LSTM(3, 4, variant="full-gate-recurrence")(torch.randn(5, 2, 3), (torch.zeros(1, 2, 4), torch.zeros(1, 2, 4)))


def test_torch_has_none_of_them() -> None:
    model = torch.nn.Sequential(LSTM(3, 4, variant="peephole"))
    with pytest.raises(ValueError, match=r"variant='peephole'"):
        restore(model)
    assert isinstance(restore(replace(torch.nn.LSTM(3, 4))), torch.nn.LSTM)
