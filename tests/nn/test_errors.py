"""What the recurrent layers refuse: torch's exception types, witnessed by torch itself, with our words."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from conveyor.nn import GRU, LSTM, RNN

Call = Callable[[Any], Any]
T, B, I, H = 5, 2, 3, 4
PAIRS = [(LSTM, nn.LSTM), (GRU, nn.GRU), (RNN, nn.RNN)]


def zeros(*shape: int, **options: Any) -> torch.Tensor:
    return torch.zeros(shape, **options)


def states(module: nn.Module, *shape: int, **options: Any) -> Any:
    """Zeros as initial states of that shape, one or a pair."""
    state = torch.zeros(shape, **options)
    return (state, state) if isinstance(module, LSTM | nn.LSTM) else state


CONSTRUCTOR: list[tuple[dict[str, Any], str]] = [
    ({"input_size": 0}, "input_size: expected an int greater than zero, got 0"),
    ({"input_size": 3.0}, "input_size: expected an int, got 3.0 of type float"),
    ({"hidden_size": -1}, "hidden_size: expected an int greater than zero, got -1"),
    ({"hidden_size": "4"}, "hidden_size: expected an int, got '4' of type str"),
    ({"num_layers": 0}, "num_layers: expected an int greater than zero, got 0"),
    ({"num_layers": 1.5}, "num_layers: expected an int, got 1.5 of type float"),
    ({"bias": 1}, "bias: expected True or False, got 1 of type int"),
    ({"batch_first": None}, "batch_first: expected True or False, got None of type NoneType"),
    ({"dropout": 1.5}, "dropout: expected a probability between 0 and 1, got 1.5"),
    ({"dropout": True}, "dropout: expected a probability between 0 and 1, got True"),
    ({"dropout": "much"}, "dropout: expected a probability between 0 and 1, got 'much'"),
    ({"dtype": torch.int32}, "dtype: expected a floating one, torch.float32 for instance, got torch.int32"),
]


@pytest.mark.parametrize(("ours", "torchs"), PAIRS)
@pytest.mark.parametrize(("options", "text"), CONSTRUCTOR, ids=str)
def test_constructor(ours: Any, torchs: Any, options: dict[str, Any], text: str) -> None:
    options = {"input_size": I, "hidden_size": H} | options
    with pytest.raises(Exception) as witness:  # noqa: PT011
        torchs(**options)
    with pytest.raises(witness.type) as caught:
        ours(**options)
    assert caught.type is witness.type
    assert str(caught.value).startswith(text)


CALLS: dict[str, tuple[dict[str, Any], Call, str]] = {
    "one dimension": ({}, lambda m: m(zeros(I)), "input: expected [T, B, I], or [T, I] for a single sequence, got [3]"),
    "four dimensions": (
        {"batch_first": True},
        lambda m: m(zeros(1, T, B, I)),
        "input: expected [B, T, I], or [T, I] for a single sequence, got [1, 5, 2, 3]",
    ),
    "features": ({}, lambda m: m(zeros(T, B, 7)), "input: expected [T, B, I] = [5, 2, 3], got [5, 2, 7]"),
    "features, batch first": (
        {"batch_first": True},
        lambda m: m(zeros(B, T, 7)),
        "input: expected [B, T, I] = [2, 5, 3], got [2, 5, 7]",
    ),
    "features, single": ({}, lambda m: m(zeros(T, 7)), "input: expected [T, I] = [5, 3], got [5, 7]"),
    "no steps": (
        {},
        lambda m: m(zeros(0, B, I)),
        "input: expected [T, B, I] with one time step or more, got [0, 2, 3]",
    ),
    "no steps, batch first": (
        {"batch_first": True},
        lambda m: m(zeros(B, 0, I)),
        "input: expected [B, T, I] with one time step or more, got [2, 0, 3]",
    ),
    "no steps, single": (
        {"batch_first": True},
        lambda m: m(zeros(0, I)),
        "input: expected [T, I] with one time step or more, got [0, 3]",
    ),
    "integers": (
        {},
        lambda m: m(zeros(T, B, I, dtype=torch.int64)),
        "input: expected torch.float32 like the weights, got torch.int64; convert input.to(torch.float32)",
    ),
    "float64": (
        {},
        lambda m: m(zeros(T, B, I, dtype=torch.float64)),
        "input: expected torch.float32 like the weights, got torch.float64; convert input.to(torch.float32)",
    ),
    "sparse": (
        {},
        lambda m: m(zeros(T, B, I).to_sparse()),
        "input: expected a dense tensor, got torch.sparse_coo; convert input.to_dense()",
    ),
    "device": (
        {},
        lambda m: m(zeros(T, B, I, device="meta")),
        "input: expected device cpu, got meta; move all to one device",
    ),
    "states of too few layers": (
        {"num_layers": 2},
        lambda m: m(zeros(T, B, I), states(m, 1, B, H)),
        "h_0: expected [L*D, B, H] = [2, 2, 4], got [1, 2, 4]",
    ),
    "states of another batch": (
        {"bidirectional": True},
        lambda m: m(zeros(T, B, I), states(m, 2, 1, H)),
        "h_0: expected [L*D, B, H] = [2, 2, 4], got [2, 1, 4]",
    ),
    "states batch first": (
        {"batch_first": True},
        lambda m: m(zeros(B, T, I), states(m, B, 1, H)),
        "h_0: expected [L*D, B, H] = [1, 2, 4], got [2, 1, 4]",
    ),
    "states without batch": (
        {},
        lambda m: m(zeros(T, B, I), states(m, 1, H)),
        "h_0: expected [L*D, B, H] = [1, 2, 4], got [1, 4]",
    ),
    "states with a batch": (
        {},
        lambda m: m(zeros(T, I), states(m, 1, 1, H)),
        "h_0: expected [L*D, H] = [1, 4], got [1, 1, 4]",
    ),
    "states of float64": (
        {},
        lambda m: m(zeros(T, B, I), states(m, 1, B, H, dtype=torch.float64)),
        "h_0: expected torch.float32, got torch.float64; convert h_0.to(torch.float32)",
    ),
    "states elsewhere": (
        {},
        lambda m: m(zeros(T, B, I), states(m, 1, B, H, device="meta")),
        "h_0: expected device cpu, got meta; move all to one device",
    ),
}


@pytest.mark.parametrize(("ours", "torchs"), PAIRS)
@pytest.mark.parametrize("case", CALLS)
def test_call(ours: Any, torchs: Any, case: str) -> None:
    options, call, text = CALLS[case]
    with pytest.raises(Exception) as witness:  # noqa: PT011
        call(torchs(I, H, **options))
    with pytest.raises(witness.type) as caught:
        call(ours(I, H, **options))
    assert caught.type is witness.type
    assert str(caught.value) == f"[{ours.__name__}] {text}"


@pytest.mark.parametrize("name", ["hidden_size", "num_layers", "checkpoint_every"])
def test_a_size_no_machine_can_count(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: expected an int below 2\^63, got 1{'0' * 30}$"):
        LSTM(**({"input_size": I, "hidden_size": H} | {name: 10**30}))


PROJECTIONS: list[tuple[object, str]] = [
    (-1, "proj_size: expected 0 for none, or an int below hidden_size = 4, got -1"),
    (4, "proj_size: expected 0 for none, or an int below hidden_size = 4, got 4"),
    (2.0, "proj_size: expected an int, got 2.0 of type float"),
    ("2", "proj_size: expected an int, got '2' of type str"),
]


@pytest.mark.parametrize(("size", "text"), PROJECTIONS, ids=str)
def test_projections(size: Any, text: str) -> None:
    with pytest.raises(Exception) as witness:  # noqa: PT011
        nn.LSTM(I, H, proj_size=size)
    with pytest.raises(witness.type) as caught:
        LSTM(I, H, proj_size=size)
    assert caught.type is witness.type
    assert str(caught.value) == text


@pytest.mark.parametrize("kind", [LSTM, RNN])
@pytest.mark.parametrize("input", [None, [1.0], torch.zeros(T, B, I).numpy()], ids=["None", "list", "numpy"])
def test_an_input_that_is_no_tensor(kind: Any, input: Any) -> None:
    with pytest.raises(TypeError, match=r"input: expected a tensor, got (NoneType|list|ndarray)$"):
        kind(I, H)(input)


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("weight_hh_l0", (4, 16), "[4H, H] = [16, 4]"),  # torch takes this one, transposed
        ("weight_ih_l0_reverse", (16, 4), "[4H, I] = [16, 3]"),
        ("weight_ih_l1", (16, 4), "[4H, D*H] = [16, 8]"),
        ("bias_hh_l1_reverse", (4,), "[4H] = [16]"),
    ],
)
def test_a_weight_of_another_shape_is_named(name: str, shape: tuple[int, ...], expected: str) -> None:
    lstm = LSTM(I, H, num_layers=2, bidirectional=True)
    setattr(lstm, name, nn.Parameter(zeros(*shape)))
    with pytest.raises(RuntimeError) as caught:
        lstm(zeros(T, B, I))
    assert str(caught.value) == f"[LSTM] {name}: expected {expected}, got {list(shape)}"


def test_a_weight_of_another_dtype_is_named() -> None:
    rnn = RNN(I, H)
    rnn.weight_hh_l0 = nn.Parameter(zeros(H, H, dtype=torch.float64))
    with pytest.raises(RuntimeError, match=r"\[RNN\] weight_hh_l0: expected torch.float32, got torch.float64"):
        rnn(zeros(T, B, I))
