"""Derivatives of every kind through the public modules: finite differences in float64, and torch.func."""

from collections.abc import Callable
from contextlib import nullcontext
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import save_on_cpu
from torch.func import functional_call, grad, jvp, stack_module_state, vmap

from conveyor.nn import GRU, LSTM, RNN

Agree = Callable[[Tensor, Tensor], None]
T, B, I, H = 2, 2, 1, 2
CUTS = {"lengths": torch.tensor([2, 1]), "resets": torch.tensor([[False, True], [True, False]])}
KINDS: list[tuple[type[nn.Module], dict[str, Any]]] = [
    (LSTM, {"proj_size": 0}),
    (LSTM, {"proj_size": 1}),
    (GRU, {}),
    (RNN, {}),
]
NAMES: list[list[str]] = [[], ["lengths"], ["resets"], ["lengths", "resets"]]


@pytest.mark.parametrize("names", NAMES, ids=str)
@pytest.mark.parametrize(("kind", "own"), KINDS, ids=str)
def test_finite_differences(kind: Any, own: dict[str, Any], names: list[str], states: Any) -> None:
    for bidirectional, num_layers, bias in product([False, True], [1, 2], [False, True]):
        torch.manual_seed(0)
        options = {"bidirectional": bidirectional, "num_layers": num_layers, "bias": bias, **own}
        module = kind(I, H, dtype=torch.float64, **options)
        call, inputs = function(module, states(module, B, dtype=torch.float64), {name: CUTS[name] for name in names})
        assert torch.autograd.gradcheck(call, inputs, fast_mode=True), options
        assert torch.autograd.gradgradcheck(call, inputs, fast_mode=True), options


def function(module: nn.Module, hx: Any, cuts: dict[str, Tensor]) -> tuple[Callable[..., Any], list[Tensor]]:
    """The module as a function of its input, states and weights alone, and these."""
    pair, names = isinstance(hx, tuple), [name for name, _ in module.named_parameters()]

    def call(x: Tensor, *rest: Tensor) -> Any:
        given = dict(zip(reversed(names), reversed(rest), strict=False))
        output, last = functional_call(module, given, (x, rest[:2] if pair else rest[0]), cuts)
        return (output, *last) if pair else (output, last)

    tensors = [torch.randn(T, B, I, dtype=torch.float64), *(hx if pair else [hx]), *module.parameters()]
    return call, [t.detach().requires_grad_() for t in tensors]


@pytest.mark.parametrize("checkpoint_every", [2, 3])
def test_checkpoints_change_no_gradient(make: Any, states: Any, run: Any, checkpoint_every: int, agree: Agree) -> None:
    ours, torchs = make(3, 4, num_layers=2, bidirectional=True)
    ours.checkpoint_every = checkpoint_every
    args = torch.randn(7, 3, 3), states(ours, 3)
    want = run(torchs, *args, dtype=torch.float64)
    for mine, witness in zip(run(ours, *args, dtype=torch.float32), want, strict=True):
        agree(mine, witness)


@pytest.mark.parametrize("names", NAMES, ids=str)
def test_gradients_of_each_sample(make: Any, names: list[str], agree: Agree) -> None:
    """vmap over grad, without a loop: they sum up to the gradient of the batch."""
    ours, _ = make(3, 4, num_layers=2, bidirectional=True)
    input, cuts = torch.randn(T, B, 3), [CUTS[name] for name in names]
    weights = {name: weight.detach() for name, weight in ours.named_parameters()}

    def loss(weights: dict[str, Tensor], row: Tensor, *cuts: Tensor) -> Tensor:
        given = {name: cut.unsqueeze(-1) for name, cut in zip(names, cuts, strict=True)}
        output: Tensor = functional_call(ours, weights, (row.unsqueeze(1),), given)[0]
        return output.square().sum()

    dims = [CUTS[name].dim() - 1 for name in names]
    each = vmap(grad(loss), in_dims=(None, 1, *dims))(weights, input, *cuts)
    ours(input, **dict(zip(names, cuts, strict=True)))[0].square().sum().backward()
    for name, weight in ours.named_parameters():
        assert each[name].shape == (B, *weight.shape)
        agree(each[name].sum(0), weight.grad.double())


def test_forward_derivatives(make: Any, agree: Agree) -> None:
    """jvp, against the difference quotient in float64."""
    ours = make(3, 4, num_layers=2, bidirectional=True)[0].double()
    input, along = torch.randn(T, B, 3).double(), torch.randn(T, B, 3).double()

    def call(x: Tensor) -> Tensor:
        output: Tensor = ours(x, **CUTS)[0]
        return output

    _, derivative = jvp(call, (input,), (along,))
    step = 1e-5
    quotient = (call(input + step * along) - call(input - step * along)) / (2 * step)
    torch.testing.assert_close(derivative, quotient, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("names", NAMES, ids=str)
def test_an_ensemble_in_one_call(make: Any, names: list[str], agree: Agree) -> None:
    models = [make(3, 4, bidirectional=True)[0] for _ in range(3)]
    for seed, model in enumerate(models):
        torch.manual_seed(seed)
        model.reset_parameters()
    stacked = stack_module_state(models)
    input, cuts = torch.randn(T, B, 3), {name: CUTS[name] for name in names}
    outputs, _ = vmap(lambda *state: functional_call(models[0], state, (input,), cuts))(*stacked)
    for mine, model in zip(outputs, models, strict=True):
        agree(mine, model(input, **cuts)[0].double())
    assert not torch.allclose(outputs[0], outputs[1])


@pytest.mark.parametrize("hooks", [nullcontext, save_on_cpu], ids=["plain", "under hooks of saved tensors"])
def test_a_gradient_penalty(hooks: Any, make: Any, agree: Agree) -> None:
    found = []
    for module, dtype in zip(make(3, 4, num_layers=2, bidirectional=True), (torch.float32, torch.float64), strict=True):
        module.to(dtype)
        generator = torch.Generator().manual_seed(1)
        input = torch.randn(5, B, 3, generator=generator).to(dtype).requires_grad_()
        with hooks():
            slope = torch.autograd.grad(module(input)[0].square().sum(), input, create_graph=True)[0]
            found.append(torch.autograd.grad((slope.norm() - 1).square(), [input, *module.parameters()]))
    for mine, witness in zip(*found, strict=True):
        agree(mine, witness)


def test_vectorized_jacobians(make: Any) -> None:
    ours, input = make(3, 4, num_layers=2, bidirectional=True)[0], torch.randn(T, B, 3)

    def call(x: Tensor) -> Tensor:
        output: Tensor = ours(x, lengths=CUTS["lengths"])[0]
        return output

    found = torch.autograd.functional.jacobian(call, input, vectorize=True)
    torch.testing.assert_close(found, torch.autograd.functional.jacobian(call, input))
