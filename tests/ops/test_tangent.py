"""The tangent of the LSTM and second derivatives by the kernels, with the equations in float64 as the witness."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.functional import hessian
from torch.func import jvp
from torch.fx.experimental.proxy_tensor import make_fx
from torch.testing._internal.two_tensor import TwoTensor

from conveyor import LSTM
from conveyor.ops import derivatives
from conveyor.ops.cells import by_direction
from conveyor.ops.fallback import by_equations
from conveyor.ops.operators import forward
from conveyor.ops.tangent import of_gates, tangent

Agree = Callable[[Tensor, Tensor], None]
T, B, I, H = 6, 4, 5, 19
OPTIONS = ["", "lengths", "resets", "lengths resets"]


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torch.manual_seed(0)


def given(D: int, bias: bool) -> list[Tensor]:
    """Input, h_0, c_0 and weights."""
    shapes = [(4 * H, I), (4 * H, H), *([(4 * H,), (4 * H,)] if bias else [])]
    weights = [torch.randn(shape) / 3 for _ in range(D) for shape in shapes]
    return [torch.randn(T, B, I), torch.randn(D, B, H), torch.randn(D, B, H), *weights]


def options(names: str) -> dict[str, Tensor]:
    all = {"lengths": torch.tensor([3, 0, T, 5]), "resets": torch.rand(T, B) < 0.3}
    return {name: all[name] for name in names.split()}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("along", ["all", "input", "states", "weights"])
@pytest.mark.parametrize("names", OPTIONS)
@pytest.mark.parametrize("D", [1, 2])
def test_a_tangent(D: int, names: str, along: str, bias: bool, agree: Agree) -> None:
    tensors, chosen = given(D, bias), options(names)
    changed = {"all": range(len(tensors)), "input": [0], "states": [1, 2], "weights": range(3, len(tensors))}[along]
    changes = [torch.randn_like(t) if n in changed else None for n, t in enumerate(tensors)]
    steps = chosen.get("lengths"), chosen.get("resets")
    input, h_0, c_0, *weights = tensors
    output, _, _, gates, cells = forward("lstm", input, h_0, c_0, weights, *steps, None, 1)
    y, h_n, c_n, sums, belts = tangent(input, h_0, c_0, weights, *steps, output, gates, cells, changes)
    found = y, h_n, c_n, of_gates(gates, sums, steps[0]), belts

    def layer(*all: Tensor) -> tuple[Tensor, ...]:
        input, h_0, c_0, *weights = all
        return tuple(by_equations("lstm", input, h_0, c_0, by_direction("lstm", weights, D), gates=True, **chosen))

    filled = [torch.zeros_like(t) if v is None else v for t, v in zip(tensors, changes, strict=True)]
    want = jvp(layer, tuple(t.double() for t in tensors), tuple(v.double() for v in filled))[1]
    past = torch.arange(T)[:, None] >= chosen["lengths"] if "lengths" in chosen else torch.zeros(T, B, dtype=bool)
    for number, (got, witness) in enumerate(zip(found, want, strict=True)):
        if number >= 3:  # past a row's end the equations run on
            witness = witness.masked_fill(past[None, :, :, None, None] if number == 3 else past[None, :, :, None], 0)
        agree(got, witness)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("names", OPTIONS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_second_derivatives(
    bidirectional: bool, names: str, bias: bool, agree: Agree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every result, gates among them, by everything that is given; without a step in Python."""
    module = LSTM(I, H, bidirectional=bidirectional, bias=bias)
    D, chosen = 1 + bidirectional, options(names)
    states = torch.randn(2, D, B, H)
    x = torch.randn(T, B, I)
    wide = LSTM(I, H, bidirectional=bidirectional, bias=bias, dtype=torch.float64)
    wide.load_state_dict(module.state_dict())

    def second(module: LSTM, dtype: torch.dtype) -> tuple[Tensor, ...]:
        input, h_0, c_0 = leaves = [t.to(dtype).requires_grad_() for t in (x, *states)]
        leaves += module.parameters()
        output, (h_n, c_n), gates = module(input, (h_0, c_0), return_gates=True, **chosen)
        shown = sum((part.square() * (n + 1)).sum() for gate in gates for n, part in enumerate(gate))
        loss = output.square().sum() + h_n.sin().sum() + c_n.cos().sum() + shown
        first = torch.autograd.grad(loss, leaves, create_graph=True)
        return torch.autograd.grad(sum(d.square().sum() for d in first), leaves)

    want = second(wide, torch.float64)
    monkeypatch.setattr(derivatives, "by_equations", None)
    for got, witness in zip(second(module, torch.float32), want, strict=True):
        agree(got, witness)


def test_nan_past_the_end_reaches_no_second_derivative() -> None:
    module, x = LSTM(I, H, bidirectional=True), torch.randn(T, B, I)
    found = []
    for padding in (0.0, torch.nan):
        input = x.clone()
        input[3:, 1:] = padding
        input.requires_grad_()
        output = module(input, lengths=[T, 3, 0, 2])[0]
        (dx,) = torch.autograd.grad(output.square().sum(), input, create_graph=True)
        found.append(torch.autograd.grad(dx.square().sum(), [input, *module.parameters()]))
    for clean, dirty in zip(*found, strict=True):
        assert torch.equal(clean, dirty)


def test_second_derivatives_through_checkpoints_and_hooks() -> None:
    module, again, x = LSTM(I, H), LSTM(I, H, checkpoint_every=2), torch.randn(T, B, I, requires_grad=True)
    again.load_state_dict(module.state_dict())

    def second(module: LSTM) -> tuple[Tensor, ...]:
        (dx,) = torch.autograd.grad(module(x)[0].square().sum(), x, create_graph=True)
        return torch.autograd.grad(dx.square().sum(), [x, *module.parameters()])

    want = second(module)
    with torch.autograd.graph.saved_tensors_hooks(torch.clone, lambda t: t):
        hooked = second(module)
    for witness, got, anew in zip(want, hooked, second(again), strict=True):
        assert torch.equal(got, witness)
        torch.testing.assert_close(anew, witness)


@pytest.fixture
def penalty() -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """The derivative of the square of a gradient, and what it is of."""
    module = LSTM(I, H)

    def second(x: Tensor) -> Tensor:
        (dx,) = torch.autograd.grad(module(x)[0].square().sum(), x, create_graph=True)
        return torch.autograd.grad(dx.square().sum(), x)[0]

    return second, torch.randn(T, B, I, requires_grad=True)


def test_a_tracer_sees_second_derivatives(penalty: tuple[Callable[[Tensor], Tensor], Tensor], agree: Agree) -> None:
    second, x = penalty
    traced = make_fx(second)(x)
    other = torch.randn_like(x, requires_grad=True)
    agree(traced(other).detach(), second(other).double())


def test_second_derivatives_of_fake_tensors(penalty: tuple[Callable[[Tensor], Tensor], Tensor]) -> None:
    second, x = penalty
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert second(mode.from_tensor(x)).shape == x.shape


def test_second_derivatives_of_a_subclass(penalty: tuple[Callable[[Tensor], Tensor], Tensor], agree: Agree) -> None:
    second, x = penalty
    found = second(TwoTensor(x.detach(), x.detach().clone()).requires_grad_())
    assert isinstance(found, TwoTensor)
    agree(found.b, second(x).double())


def test_a_vectorized_hessian() -> None:
    module, x = LSTM(2, 3), torch.randn(3, 1, 2)

    def loss(x: Tensor) -> Tensor:
        return module(x)[0].square().sum()

    torch.testing.assert_close(hessian(loss, x, vectorize=True), hessian(loss, x))


@pytest.fixture
def anomalies(deterministic: None) -> Iterator[None]:
    """Uninitialised memory is NaN, and a NaN in a gradient an error."""
    with torch.autograd.detect_anomaly():
        yield


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
@pytest.mark.parametrize("bidirectional", [False, True])
def test_second_derivatives_of_gates_have_no_anomaly(bidirectional: bool, anomalies: None) -> None:
    module, x = LSTM(I, H, bidirectional=bidirectional), torch.randn(T, B, I, requires_grad=True)
    lengths = torch.tensor([T, 3, 0, 2])
    output, _, gates = module(x, lengths=lengths, return_gates=True)
    here = (torch.arange(T).unsqueeze(-1) < lengths).unsqueeze(-1)
    shown = sum(torch.where(here, part, 0).square().sum() for gate in gates for part in gate)
    (dx,) = torch.autograd.grad(output.square().sum() + shown, x, create_graph=True)
    for found in torch.autograd.grad(dx.square().sum(), [x, *module.parameters()]):
        assert found.isfinite().all()
