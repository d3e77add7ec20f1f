"""A plain call in inference goes past the checks, and gives what goes by way of them, or leaves it to them."""

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
def test_what_is_unlike_a_plain_call_gives_what_it_gave(case: str) -> None:
    torch.manual_seed(2)
    lstm, x = LSTM(5, 7), torch.randn(4, 3, 5)
    with torch.no_grad():
        results, expected = flat(UNLIKE[case](lstm, x)), flat(with_checks(lambda: UNLIKE[case](lstm, x)))
    assert all(torch.equal(got, wanted) for got, wanted in zip(results, expected, strict=True))


def with_weight(name: str, weight: Any) -> Callable[[LSTM, Tensor], Any]:
    def call(lstm: LSTM, x: Tensor) -> Any:
        setattr(lstm, name, weight)
        return lstm(x)

    return call


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
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_refused_as_it_was(case: str) -> None:
    said = []
    for way in (lambda call: call(), with_checks):
        with torch.no_grad(), pytest.raises((RuntimeError, TypeError, ValueError, AttributeError)) as error:
            way(lambda: WRONG[case](LSTM(5, 7), torch.randn(4, 3, 5)))
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


def test_its_results_outlive_it_and_one_another() -> None:
    kept = []
    with torch.no_grad():
        for T in range(1, 200):
            output, (h_n, c_n) = LSTM(3, 4)(torch.full((T, 2, 3), T / 200))
            kept.append((output, output.clone(), h_n, h_n.clone(), c_n, c_n.clone()))
    for parts in kept:
        assert all(torch.equal(parts[n], parts[n + 1]) for n in (0, 2, 4))
