"""The cells: what torch's do, with torch as the witness."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from conveyor.nn import LSTM, GRUCell, LSTMCell, RNNCell

Agree = Callable[[Tensor, Tensor], None]
B, I, H = 3, 5, 4
PAIRS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "LSTM": (LSTMCell, nn.LSTMCell, {}),
    "GRU": (GRUCell, nn.GRUCell, {}),
    "RNN": (RNNCell, nn.RNNCell, {}),
    "relu": (RNNCell, nn.RNNCell, {"nonlinearity": "relu"}),
}
Pair = tuple[nn.Module, nn.Module]


@pytest.fixture(params=PAIRS)
def cells(request: pytest.FixtureRequest) -> Callable[..., Pair]:
    """Makes our cell and torch's from the same seed."""

    def pair(**options: Any) -> Pair:
        ours, torchs, own = PAIRS[request.param]
        torch.manual_seed(0)
        mine = ours(I, H, **own, **options)
        torch.manual_seed(0)
        return mine, torchs(I, H, **own, **options)

    return pair


def hx(cell: nn.Module, *shape: int, **options: Any) -> Any:
    both = torch.randn(shape, **options), torch.randn(shape, **options)
    return both if isinstance(cell, LSTMCell | nn.LSTMCell) else both[0]


@pytest.mark.parametrize("given", [False, True], ids=["no states", "states"])
@pytest.mark.parametrize("batch", [[], [B], [1], [0]], ids=["single", "batch", "one row", "no rows"])
@pytest.mark.parametrize("bias", [True, False])
def test_results_and_gradients(cells: Any, run: Any, bias: bool, batch: list[int], given: bool, agree: Agree) -> None:
    ours, torchs = cells(bias=bias)
    args = [torch.randn(*batch, I), *([hx(ours, *batch, H)] if given else [])]
    want = run(torchs, *args, dtype=torch.float64)
    for dtype in (torch.float32, torch.float64):
        for mine, witness in zip(run(ours, *args, dtype=dtype), want, strict=True):
            agree(mine, witness)


@pytest.mark.parametrize("bias", [True, False])
def test_parameters(cells: Any, bias: bool) -> None:
    ours, torchs = cells(bias=bias)
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in torchs.named_parameters()]
    assert all(map(torch.equal, ours.parameters(), torchs.parameters()))
    assert repr(ours) == repr(torchs)
    assert bias or ours.bias_ih is ours.bias_hh is None
    for source, target in [(ours, torchs), (torchs, ours)]:
        source.reset_parameters()
        target.load_state_dict(source.state_dict(), strict=True)
        assert all(map(torch.equal, ours.parameters(), torchs.parameters()))


def test_derivatives(cells: Any) -> None:
    cell = cells()[0].double()
    x = torch.randn(B, I, dtype=torch.float64, requires_grad=True)
    state = hx(cell, B, H, dtype=torch.float64, requires_grad=True)

    def step(x: Tensor, *state: Tensor) -> Any:
        return cell(x, state if len(state) == 2 else state[0])

    args = (x, *(state if isinstance(state, tuple) else [state]))
    assert torch.autograd.gradcheck(step, args)
    assert torch.autograd.gradgradcheck(step, args)


def test_copies_compute_the_same(cells: Any) -> None:
    ours, _ = cells()
    x, state = torch.randn(B, I), hx(ours, B, H)
    for twin in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert torch.equal(torch.cat(tuple(twin(x, state))), torch.cat(tuple(ours(x, state))))


def test_compiles_and_is_traced(cells: Any) -> None:
    ours, _ = cells()
    x, state = torch.randn(B, I), hx(ours, B, H)
    want = ours(x, state)
    torch.testing.assert_close(torch.compile(ours, fullgraph=True, backend="aot_eager")(x, state), want)
    torch.testing.assert_close(torch.jit.trace(ours, (x, state))(x, state), want)
    torch.testing.assert_close(torch.export.export(ours, (x, state)).module()(x, state), want)


def test_autocast_computes_in_its_precision(cells: Any, agree: Agree) -> None:
    ours, torchs = cells()
    x, state = torch.randn(B, I), hx(ours, B, H)
    with torch.autocast("cpu", torch.bfloat16):
        results = ours(x, state)
    for mine, witness in zip(*((r if isinstance(r, tuple) else [r]) for r in (results, torchs(x, state))), strict=True):
        assert mine.dtype is torch.bfloat16
        agree(mine, witness.double())


def test_a_cell_is_the_layer_a_step_at_a_time(agree: Agree) -> None:
    torch.manual_seed(0)
    layer, cell = LSTM(I, H), LSTMCell(I, H)
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in layer.state_dict().items()})
    input, state, outputs = torch.randn(6, B, I), None, []
    for x in input:
        state = cell(x, state)
        outputs.append(state[0])
    agree(torch.stack(outputs), layer(input)[0].double())


def zeros(*shape: int, **options: Any) -> Tensor:
    return torch.zeros(shape, **options)


CALLS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "three dimensions": (lambda c: c(zeros(1, B, I)), "input: expected [B, I], or [I] for a single row, got [1, 3, 5]"),
    "no dimension": (lambda c: c(zeros()), "input: expected [B, I], or [I] for a single row, got []"),
    "features": (lambda c: c(zeros(B, 7)), "input: expected [B, I] = [3, 5], got [3, 7]"),
    "features, single": (lambda c: c(zeros(7)), "input: expected [I] = [5], got [7]"),
    "float64": (
        lambda c: c(zeros(B, I, dtype=torch.float64)),
        "input: expected torch.float32, got torch.float64; convert input.to(torch.float32)",
    ),
    "integers": (
        lambda c: c(zeros(B, I, dtype=torch.int64)),
        "input: expected torch.float32, got torch.int64; convert input.to(torch.float32)",
    ),
    "state of three dimensions": (
        lambda c: c(zeros(B, I), states(c, 1, B, H)),
        "h: expected [B, H], or [H] for a single row, got [1, 3, 4]",
    ),
    "state of another batch": (lambda c: c(zeros(B, I), states(c, 2, H)), "h: expected [B, H] = [3, 4], got [2, 4]"),
    "state of another size": (lambda c: c(zeros(B, I), states(c, B, 5)), "h: expected [B, H] = [3, 4], got [3, 5]"),
}


def states(cell: nn.Module, *shape: int) -> Any:
    both = zeros(*shape), zeros(*shape)
    return both if isinstance(cell, LSTMCell | nn.LSTMCell) else both[0]


@pytest.mark.parametrize("case", CALLS)
def test_bad_input(cells: Any, case: str) -> None:
    ours, torchs = cells()
    call, text = CALLS[case]
    with pytest.raises(Exception) as witness:  # noqa: PT011
        call(torchs)
    with pytest.raises(witness.type) as caught:
        call(ours)
    assert caught.type is witness.type
    assert str(caught.value) == f"[{type(ours).__name__}] {text}"


def test_bad_arguments() -> None:
    with pytest.raises(RuntimeError, match=r"^\[LSTMCell\] hx: expected a pair \(h_0, c_0\), got one Tensor$"):
        LSTMCell(I, H)(zeros(B, I), zeros(B, H))
    with pytest.raises(TypeError, match=r"^\[GRUCell\] input: expected a tensor \[B, I\], got list$"):
        GRUCell(I, H)([1.0])
    with pytest.raises(RuntimeError, match=r"^\[GRUCell\] input: expected a dense tensor, got torch.sparse_coo"):
        GRUCell(I, H)(zeros(B, I).to_sparse())
    with pytest.raises(RuntimeError, match=r"^dtype: expected a floating one, torch.float32 for instance, got torch."):
        RNNCell(I, H, dtype=torch.int32)
    with pytest.raises(ValueError, match=r"nonlinearity: expected one of \['tanh', 'relu'\], got 'sigmoid'"):
        RNNCell(I, H, nonlinearity="sigmoid")
    with pytest.raises(ValueError, match="hidden_size: expected an int greater than zero, got 0"):
        RNNCell(I, 0)
