"""A plain call goes past the checks, and gives what goes by way of them, or leaves it to them."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from conveyor import GRU, LSTM, RNN, ops

CELLS: dict[str, type[nn.Module]] = {"lstm": LSTM, "gru": GRU, "rnn": RNN}


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each layer since the test began was the plain path's."""
    went: list[bool] = []
    run = ops.plain

    def counted(*given: Any, **named: Any) -> Any:
        found = run(*given, **named)
        went.append(found is not None)
        return found

    monkeypatch.setattr(ops, "plain", counted)
    return went


def with_checks(call: Callable[[], Any]) -> Any:
    """What the call gives on the way of all others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ops, "unobserved", lambda: False)
        return call()


def flat(results: Any) -> list[Tensor]:
    return [results] if isinstance(results, Tensor) else [t for part in results for t in flat(part)]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("layers", "two", "first"), [*product((1, 2), (False, True), (False, True))])
@pytest.mark.parametrize("given", [False, True])
def test_a_plain_call_gives_what_the_checked_one_gives(
    cell: str, layers: int, two: bool, first: bool, given: bool, plain: list[bool]
) -> None:
    torch.manual_seed(1)
    P = 3 if cell == "lstm" and two else 0
    more = {"proj_size": P} if P else {}
    module = CELLS[cell](5, 7, layers, bias=not first, batch_first=first, bidirectional=two, **more)
    x, D = torch.randn(4, 3, 5), 1 + two
    B = len(x) if first else x.shape[1]
    h, c = torch.randn(layers * D, B, P or 7), torch.randn(layers * D, B, 7)
    states = [] if not given else [(h, c) if cell == "lstm" else h]
    with torch.inference_mode():
        results, expected = flat(module(x, *states)), flat(with_checks(lambda: module(x, *states)))
    assert plain == [True] * layers
    for got, wanted in zip(results, expected, strict=True):
        assert torch.equal(got, wanted)
        assert got.stride() == wanted.stride()


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("layers", "two", "first"), [*product((1, 2), (False, True), (False, True))])
@pytest.mark.parametrize(("given", "rows"), [*product((False, True), ("alike", "lengths", "resets"))])
def test_so_do_its_gradients(
    cell: str, layers: int, two: bool, first: bool, given: bool, rows: str, plain: list[bool]
) -> None:
    torch.manual_seed(1)
    P = 3 if cell == "lstm" and two else 0
    more = {"proj_size": P} if P else {}
    module = CELLS[cell](
        5, 7, layers, bias=not first, batch_first=first, bidirectional=two, dropout=layers / 2 - 0.5, **more
    )
    x, D = torch.randn(4, 3, 5, requires_grad=given), 1 + two
    B = len(x) if first else x.shape[1]
    of_rows = {"alike": {}, "lengths": {"lengths": [3, 0, 2, 1][:B]}, "resets": {"resets": torch.rand(4, 3) < 0.3}}[
        rows
    ]
    h, c = (torch.randn(layers * D, B, n, requires_grad=True) for n in (P or 7, 7))
    states = [] if not given else [(h, c) if cell == "lstm" else h]
    wanted = [*module.parameters(), *([x, h] if given else []), *([c] if given and cell == "lstm" else [])]

    def there_and_back() -> list[Tensor]:
        torch.manual_seed(2)
        results = flat(module(x, *states, **of_rows))
        return [*results, *torch.autograd.grad(results, wanted, [torch.randn_like(t) for t in results])]

    results = there_and_back()
    assert plain == ([False] if first and rows == "resets" else [True] * layers)  # those lie apart: they are copied
    for got, expected in zip(results, with_checks(there_and_back), strict=True):
        assert torch.equal(got, expected)
        assert got.stride() == expected.stride()


def test_gradients_of_its_gradients(plain: list[bool]) -> None:
    lstm, x = LSTM(5, 7), torch.randn(4, 3, 5, requires_grad=True)

    def second() -> list[Tensor]:
        (dx,) = torch.autograd.grad(lstm(x, lengths=[4, 2, 3])[0].square().sum(), x, create_graph=True)
        return [dx, *torch.autograd.grad(dx.square().sum(), [x, *lstm.parameters()])]

    results = second()
    assert plain == [True]
    assert all(torch.equal(got, expected) for got, expected in zip(results, with_checks(second), strict=True))


def test_what_is_changed_before_the_way_back_is_refused() -> None:
    lstm, x = LSTM(5, 7), torch.randn(4, 3, 5)
    output, _ = lstm(x)
    with torch.no_grad():
        lstm.weight_hh_l0.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


NEGATED = nn.Parameter(torch._neg_view(torch.ones(28, 5)))

UNLIKE: dict[str, Callable[[LSTM, Tensor], Any]] = {
    "steps that lie apart": lambda lstm, x: lstm(x.transpose(0, 2).contiguous().transpose(0, 2)),
    "states that lie apart": lambda lstm, x: lstm(x, (torch.ones(1, 7, 3).transpose(1, 2),) * 2),
    "one state of the two": lambda lstm, x: lstm(x, (torch.ones(1, 3, 7), None)),
    "no rows": lambda lstm, x: lstm(x[:, :0]),
    "a single sequence": lambda lstm, x: lstm(x[:, 0]),
    "doubles": lambda lstm, x: lstm.double()(x.double()),
    "negated when it is read": lambda lstm, x: lstm(torch._neg_view(x)),
    "a weight negated when it is read": lambda lstm, x: with_weight("weight_ih_l0", NEGATED)(lstm, x),
    "under autocast": lambda lstm, x: torch.autocast("cpu")(lstm)(x),
}


@pytest.mark.parametrize("case", UNLIKE)
@pytest.mark.parametrize("learns", [False, True])
def test_what_is_unlike_a_plain_call_gives_what_it_gave(case: str, learns: bool) -> None:
    torch.manual_seed(2)
    lstm, x = LSTM(5, 7), torch.randn(4, 3, 5)
    with torch.set_grad_enabled(learns):
        results, expected = flat(UNLIKE[case](lstm, x)), flat(with_checks(lambda: UNLIKE[case](lstm, x)))
    assert all(torch.equal(got, wanted) for got, wanted in zip(results, expected, strict=True))


def with_weight(name: str, weight: Any) -> Callable[[LSTM, Tensor], Any]:
    def call(lstm: LSTM, x: Tensor) -> Any:
        setattr(lstm, name, weight)
        return lstm(x)

    return call


def with_first(lstm: LSTM) -> LSTM:
    lstm.batch_first = True
    return lstm


WRONG: dict[str, Callable[[LSTM, Tensor], Any]] = {
    "a list": lambda lstm, x: lstm(x.tolist()),
    "features": lambda lstm, x: lstm(x[..., :4]),
    "dtype": lambda lstm, x: lstm(x.double()),
    "no steps": lambda lstm, x: lstm(x[:0]),
    "sparse": lambda lstm, x: lstm(x.to_sparse()),
    "device": lambda lstm, x: lstm(x.to("meta")),
    "state of another batch": lambda lstm, x: lstm(x, (torch.ones(1, 2, 7), torch.ones(1, 2, 7))),
    "states of too many layers": lambda lstm, x: lstm(x, (torch.ones(2, 3, 7), torch.ones(2, 3, 7))),
    "a state that is a number": lambda lstm, x: lstm(x, (1.0, torch.ones(1, 3, 7))),
    "a weight of another shape": with_weight("weight_hh_l0", nn.Parameter(torch.ones(28, 6))),
    "a weight of another dtype": with_weight("weight_ih_l0", nn.Parameter(torch.ones(28, 5, dtype=torch.float64))),
    "no weight": with_weight("bias_ih_l0", None),
    "a length above T": lambda lstm, x: lstm(x, lengths=[4, 5, 1]),
    "a length below zero": lambda lstm, x: lstm(x, lengths=torch.tensor([4, -1, 1])),
    "lengths of another batch": lambda lstm, x: lstm(x, lengths=[4, 4]),
    "lengths that are no numbers": lambda lstm, x: lstm(x, lengths=["a", "b", "c"]),
    "lengths of floats": lambda lstm, x: lstm(x, lengths=torch.ones(3)),
    "lengths negated when they are read": lambda lstm, x: lstm(x, lengths=torch._neg_view(torch.tensor([3, 2, 1]))),
    "fewer layers than it was made with": lambda lstm, x: (setattr(lstm, "num_layers", 1), lstm(x))[1],
    "resets of another batch": lambda lstm, x: lstm(x, resets=torch.ones(4, 2, dtype=torch.bool)),
    "resets of numbers": lambda lstm, x: lstm(x, resets=torch.ones(4, 3)),
    "resets that are a list": lambda lstm, x: lstm(x, resets=[[True] * 3] * 4),
    "resets steps first": lambda lstm, x: with_first(lstm)(x[:3, :2], resets=torch.ones(2, 3, dtype=torch.bool)),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("learns", [False, True])
def test_what_is_wrong_is_refused_as_it_was(case: str, learns: bool) -> None:
    said = []
    for way in (lambda call: call(), with_checks):
        with (
            torch.set_grad_enabled(learns),
            pytest.raises((RuntimeError, TypeError, ValueError, AttributeError)) as error,
        ):
            way(lambda: WRONG[case](LSTM(5, 7, 1 + case.startswith("fewer layers")), torch.randn(4, 3, 5)))
        said.append((error.type, str(error.value)))
    assert said[0] == said[1]


def test_weights_of_another_size_that_fit_one_another_are_refused() -> None:
    lstm, larger = LSTM(5, 7), LSTM(6, 8)
    for name, weight in larger.named_parameters():
        setattr(lstm, name, weight)
    with torch.no_grad(), pytest.raises(RuntimeError, match=r"expected .* = \[4, 3, 5\]"):
        lstm(torch.randn(4, 3, 6))
    with torch.no_grad(), pytest.raises(RuntimeError, match="weight_ih_l0"):
        lstm(torch.randn(4, 3, 5))


def test_states_of_more_layers_than_there_are_are_refused() -> None:
    states = (torch.ones(3, 3, 7), torch.ones(3, 3, 7))
    with torch.no_grad(), pytest.raises(RuntimeError, match=r"h_0: expected .* = \[2, 3, 7\]"):
        LSTM(5, 7, 2)(torch.randn(4, 3, 5), states)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_parametrizations_are_evaluated_once_a_call(dtype: torch.dtype) -> None:
    class Counted(nn.Module):
        calls = 0

        def forward(self, weight: Tensor) -> Tensor:
            Counted.calls += 1
            return weight / 2

    lstm, x = LSTM(5, 7, dtype=dtype), torch.randn(4, 3, 5, dtype=dtype)
    parametrize.register_parametrization(lstm, "weight_hh_l0", Counted())
    Counted.calls = 0
    with torch.no_grad():
        lstm(x)
    assert Counted.calls == 1


def test_dropout_between_layers_is_drawn_as_on_the_other_way() -> None:
    lstm, x = LSTM(5, 7, 2, dropout=0.5), torch.randn(4, 3, 5)
    torch.manual_seed(3)
    with torch.no_grad():
        output, _ = lstm(x)
        torch.manual_seed(3)
        expected, _ = with_checks(lambda: lstm(x))
    assert torch.equal(output, expected)
    assert not torch.equal(output, lstm.eval()(x)[0])


@pytest.mark.parametrize("lying", ["apart", "negated"])
def test_what_is_dropped_out_is_drawn_once(lying: str, plain: list[bool]) -> None:
    lstm, x = LSTM(5, 7, 2, dropout=0.5), torch.randn(4, 3, 5)
    own = lstm.weight_hh_l1.detach()
    lstm.weight_hh_l1 = nn.Parameter(own.t().contiguous().t() if lying == "apart" else torch._neg_view(own))

    def run() -> list[Tensor]:
        torch.manual_seed(3)
        return [lstm(x)[0], torch.rand(1)]

    assert all(torch.equal(got, expected) for got, expected in zip(run(), with_checks(run), strict=True))
    assert plain == []


def test_more_than_there_is_room_for_is_refused_for_what_is_wrong() -> None:
    with pytest.raises(RuntimeError, match=r"\[LSTM\] h_0: expected"):
        LSTM(5, 7)(torch.zeros(5).expand(1 << 21, 1 << 21, 5), (torch.zeros(1, 3, 7), torch.zeros(1, 3, 7)))


def test_a_tensor_without_values_is_refused() -> None:
    with pytest.raises(ValueError, match="expected values in memory, got none"):
        LSTM(5, 7)(torch._efficientzerotensor(4, 3, 5))


def test_its_results_outlive_it_and_one_another() -> None:
    kept = []
    with torch.no_grad():
        for T in range(1, 200):
            output, (h_n, c_n) = LSTM(3, 4)(torch.full((T, 2, 3), T / 200))
            kept.append((output, output.clone(), h_n, h_n.clone(), c_n, c_n.clone()))
    for parts in kept:
        assert all(torch.equal(parts[n], parts[n + 1]) for n in (0, 2, 4))
