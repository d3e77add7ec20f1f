"""What is refused of lengths, resets and packed sequences."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functionalize, grad, jvp, vmap

from conveyor.nn import GRU, LSTM, RNN

Call = Callable[[Any], Any]
Run = Callable[[torch.Tensor, Any], torch.Tensor]
T, B, I, H = 5, 2, 3, 4


def zeros(*shape: int, **options: Any) -> torch.Tensor:
    return torch.zeros(shape, **options)


def states(module: nn.Module, *shape: int) -> Any:
    """Zeros as initial states of that shape, one or a pair."""
    return (zeros(*shape), zeros(*shape)) if isinstance(module, LSTM) else zeros(*shape)


CUTS: dict[str, tuple[dict[str, Any], type[Exception], Call, str]] = {
    "too long": (
        {},
        RuntimeError,
        lambda m: m(zeros(T, B, I), lengths=[5, 6]),
        r"lengths: expected 0 to T = 5 steps in every row, got 6 in row 1",
    ),
    "negative": (
        {},
        RuntimeError,
        lambda m: m(zeros(T, B, I), lengths=torch.tensor([-1, 2])),
        r"lengths: expected 0 to T = 5 steps in every row, got -1 in row 0",
    ),
    "too few": (
        {},
        RuntimeError,
        lambda m: m(zeros(T, B, I), lengths=[5]),
        r"lengths: expected \[B\] = \[2\], got \[1\]",
    ),
    "too few, batch first": (
        {"batch_first": True},
        RuntimeError,
        lambda m: m(zeros(B, T, I), lengths=[5]),
        r"lengths: expected \[B\] = \[2\], got \[1\]",
    ),
    "of a single sequence": (
        {},
        RuntimeError,
        lambda m: m(zeros(T, I), lengths=[5]),
        r"lengths: expected one number, a tensor \[\] = \[\], got \[1\]",
    ),
    "floating": (
        {},
        RuntimeError,
        lambda m: m(zeros(T, B, I), lengths=[5.0, 3.0]),
        r"lengths: expected torch\.int64, got torch\.float32; convert lengths\.long\(\)",
    ),
    "of bool": (
        {},
        RuntimeError,
        lambda m: m(zeros(T, B, I), lengths=torch.ones(B, dtype=torch.bool)),
        r"lengths: expected torch\.int64, got torch\.bool; convert lengths\.long\(\)",
    ),
    "of None": (
        {},
        RuntimeError,
        lambda m: m(zeros(T, B, I), lengths=[None] * B),
        r"lengths: expected ints from 0 to T, got \[None, None\]; give each row one",
    ),
    "too large for any tensor": (
        {},
        RuntimeError,
        lambda m: m(zeros(T, B, I), lengths=[2**70, 1]),
        r"lengths: expected ints from 0 to T, got \[1180591620717411303424, 1\]; give each row one",
    ),
    "elsewhere": (
        {},
        RuntimeError,
        lambda m: m(zeros(T, B, I), lengths=torch.ones(B, dtype=torch.int64, device="meta")),
        r"lengths: expected device cpu, got meta; move all to one device",
    ),
    "no tensor": (
        {},
        TypeError,
        lambda m: m(zeros(T, B, I), lengths="53"),
        r"lengths: expected a tensor or a list of ints, got str",
    ),
    "resets turned": (
        {},
        RuntimeError,
        lambda m: m(zeros(T, B, I), resets=torch.zeros(B, T, dtype=torch.bool)),
        r"resets: expected \[T, B\] = \[5, 2\], got \[2, 5\]",
    ),
    "resets turned, batch first": (
        {"batch_first": True},
        RuntimeError,
        lambda m: m(zeros(B, T, I), resets=torch.zeros(T, B, dtype=torch.bool)),
        r"resets: expected \[B, T\] = \[2, 5\], got \[5, 2\]",
    ),
    "resets of a single sequence": (
        {},
        RuntimeError,
        lambda m: m(zeros(T, I), resets=torch.zeros(T, 1, dtype=torch.bool)),
        r"resets: expected \[T\] = \[5\], got \[5, 1\]",
    ),
    "resets of numbers": (
        {},
        RuntimeError,
        lambda m: m(zeros(T, B, I), resets=zeros(T, B)),
        r"resets: expected torch\.bool, got torch\.float32; convert resets\.bool\(\)",
    ),
    "resets elsewhere": (
        {},
        RuntimeError,
        lambda m: m(zeros(T, B, I), resets=torch.zeros(T, B, dtype=torch.bool, device="meta")),
        r"resets: expected device cpu, got meta; move all to one device",
    ),
    "resets that are no tensor": (
        {},
        TypeError,
        lambda m: m(zeros(T, B, I), resets=[[False] * B] * T),
        r"resets: expected a tensor \[T, B\], got list",
    ),
}


@pytest.mark.parametrize("kind", [LSTM, GRU, RNN])
@pytest.mark.parametrize("case", CUTS)
def test_lengths_and_resets(kind: Any, case: str) -> None:
    options, error, call, text = CUTS[case]
    with pytest.raises(error, match=rf"^\[{kind.__name__}\] {text}$"):
        call(kind(I, H, **options))


TRANSFORMS: dict[str, Callable[[Run, torch.Tensor, torch.Tensor], Any]] = {
    "none": lambda run, x, lengths: run(x, lengths),
    "grad": lambda run, x, lengths: grad(lambda x: run(x, lengths).sum())(x),
    "grad, a list": lambda run, x, lengths: grad(lambda x: run(x, lengths.tolist()).sum())(x),
    "jvp": lambda run, x, lengths: jvp(lambda x: run(x, lengths), (x,), (x,)),
    "vmap": lambda run, x, lengths: vmap(run, (0, None))(torch.stack([x, x]), lengths),
    "vmap of lengths": lambda run, x, lengths: vmap(run, (None, 1))(x, torch.stack([lengths, lengths], 1)),
    "functionalize": lambda run, x, lengths: functionalize(run)(x, lengths),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])  # by the kernels, by the equations
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("wrong", [-1, T + 1])
def test_lengths_under_transforms(wrong: int, transform: str, dtype: torch.dtype) -> None:
    lstm, x, lengths = LSTM(I, H, dtype=dtype), zeros(T, B, I, dtype=dtype), torch.tensor([2, wrong])

    def run(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = lstm(x, lengths=lengths)[0]
        return output

    row = "a row" if transform == "vmap of lengths" else "row 1"
    text = rf"^\[LSTM\] lengths: expected 0 to T = 5 steps in every row, got {wrong} in {row}$"
    with pytest.raises(RuntimeError, match=text):
        TRANSFORMS[transform](run, x, lengths)


def packed(*lengths: int, features: int = I, dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    input = zeros(T, len(lengths), features, dtype=dtype)
    return nn.utils.rnn.pack_padded_sequence(input, list(lengths), **options)


def counted(*counts: int) -> Any:
    return packed(5, 3)._replace(batch_sizes=torch.tensor(counts, dtype=torch.int64))


def ordered(*rows: int) -> Any:
    return packed(5, 3, enforce_sorted=False)._replace(sorted_indices=torch.tensor(rows))


def sizes(steps: int, *got: int) -> str:
    return (
        rf"input\.batch_sizes: expected numbers above zero that never rise and sum up to {steps} steps, "
        rf"got \{list(got)}; make it with torch\.nn\.utils\.rnn\.pack_padded_sequence"
    )


def order(*got: int) -> str:
    return (
        rf"input\.sorted_indices: expected each of the rows 0 to 1 once, got \{list(got)}; "
        r"make it with torch\.nn\.utils\.rnn\.pack_padded_sequence"
    )


PACKED: dict[str, tuple[type[Exception], Call, str]] = {
    "states of another batch": (
        RuntimeError,
        lambda m: m(packed(5, 3), states(m, 1, 3, H)),
        r"h_0: expected \[L\*D, B, H\] = \[1, 2, 4\], got \[1, 3, 4\]",
    ),
    "states without batch": (
        RuntimeError,
        lambda m: m(packed(5, 3), states(m, 1, H)),
        r"h_0: expected \[L\*D, B, H\] = \[1, 2, 4\], got \[1, 4\]",
    ),
    "lengths twice": (
        RuntimeError,
        lambda m: m(packed(5, 3), lengths=[5, 3]),
        r"lengths: expected None with a PackedSequence, which has its own",
    ),
    "features": (
        RuntimeError,
        lambda m: m(packed(5, 3, features=7)),
        r"input\.data: expected \[N, I\] = \[8, 3\], got \[8, 7\]",
    ),
    "one dimension": (
        RuntimeError,
        lambda m: m(packed(5, 3)._replace(data=zeros(8))),
        r"input\.data: expected \[N, I\] = \[8, 3\], got \[8\]",
    ),
    "float64": (
        ValueError,
        lambda m: m(packed(5, 3, dtype=torch.float64)),
        r"input: expected torch\.float32 like the weights, got torch\.float64; convert input\.to\(torch\.float32\)",
    ),
    "resets of the longest row": (
        RuntimeError,
        lambda m: m(packed(4, 3), resets=torch.zeros(T, B, dtype=torch.bool)),
        r"resets: expected \[T, B\] = \[4, 2\], got \[5, 2\]",
    ),
    "steps that are missing": (
        RuntimeError,
        lambda m: m(packed(5, 3)._replace(data=zeros(7, I))),
        sizes(7, 2, 2, 2, 1, 1),
    ),
    "sizes that rise": (RuntimeError, lambda m: m(counted(2, 1, 2, 2, 1)), sizes(8, 2, 1, 2, 2, 1)),
    "sizes of nothing": (RuntimeError, lambda m: m(counted(2, 2, 2, 2, 0)), sizes(8, 2, 2, 2, 2, 0)),
    "no sizes": (RuntimeError, lambda m: m(counted()), sizes(8)),
    "an order of more rows": (RuntimeError, lambda m: m(ordered(0, 1, 2)), order(0, 1, 2)),
    "an order of fewer rows": (RuntimeError, lambda m: m(ordered(0)), order(0)),
    "an order of other rows": (RuntimeError, lambda m: m(ordered(0, 7)), order(0, 7)),
    "an order of one row twice": (RuntimeError, lambda m: m(ordered(1, 1)), order(1, 1)),
}


@pytest.mark.parametrize("kind", [LSTM, GRU, RNN])
@pytest.mark.parametrize("case", PACKED)
def test_packed_sequences(kind: Any, case: str) -> None:
    error, call, text = PACKED[case]
    with pytest.raises(error, match=rf"^\[{kind.__name__}\] {text}$"):
        call(kind(I, H))
