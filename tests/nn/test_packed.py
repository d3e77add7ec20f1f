"""Packed sequences, with torch as the witness."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

# The witness says so of itself, once a process.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

Agree = Callable[[Tensor, Tensor], None]
T, B, I = 6, 4, 5
ORDERS = {"sorted": ([6, 4, 4, 1], True), "unsorted": ([2, 6, 1, 6], False), "sorted by itself": ([5, 3, 2, 2], False)}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"bidirectional": True, "bias": False},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
]


def padded(lengths: list[int], *, batch_first: bool = False, enforce_sorted: bool) -> PackedSequence:
    input = torch.randn(B, T, I) if batch_first else torch.randn(T, B, I)
    return pack_padded_sequence(input, lengths, batch_first=batch_first, enforce_sorted=enforce_sorted)


@pytest.mark.parametrize("given", [False, True], ids=["no states", "states"])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_results_and_gradients(
    make: Any, states: Any, run: Any, options: dict[str, Any], order: str, given: bool, agree: Agree
) -> None:
    ours, torchs = make(**options)
    lengths, enforced = ORDERS[order]
    packed = padded(lengths, batch_first=options.get("batch_first", False), enforce_sorted=enforced)
    args = (packed, states(ours, B)) if given else (packed,)
    want = run(torchs, *args, dtype=torch.float64)
    for dtype in (torch.float32, torch.float64):
        for mine, witness in zip(run(ours, *args, dtype=dtype), want, strict=True):
            agree(mine, witness)


@pytest.mark.parametrize("order", ORDERS)
def test_what_comes_is_packed_as_what_went_in(make: Any, order: str) -> None:
    ours, torchs = make()
    lengths, enforced = ORDERS[order]
    packed = padded(lengths, enforce_sorted=enforced)
    output, witness = ours(packed)[0], torchs(packed)[0]
    for part in ("batch_sizes", "sorted_indices", "unsorted_indices"):
        mine, theirs = getattr(output, part), getattr(witness, part)
        assert (mine is None and theirs is None) or torch.equal(mine, theirs)
    assert torch.equal(pad_packed_sequence(output)[1], torch.tensor(lengths))


@pytest.mark.parametrize("order", ORDERS)
def test_it_is_the_padded_call_with_lengths(make: Any, states: Any, order: str, agree: Agree) -> None:
    """Resets and gates are those of the padded rows, in the order before sorting."""
    ours, _ = make(num_layers=2, bidirectional=True, batch_first=True)
    lengths, enforced = ORDERS[order]
    input, hx, resets = torch.randn(B, T, I), states(ours, B), torch.rand(T, B) < 0.3
    options = {"return_gates": True} if isinstance(hx, tuple) else {}
    packed = pack_padded_sequence(input, lengths, batch_first=True, enforce_sorted=enforced)
    longest = max(lengths)  # the padding may be longer, and a PackedSequence does not know it
    output, last, *gates = ours(packed, hx, resets=resets[:longest], **options)
    want, witness, *shown = ours(input, hx, lengths=lengths, resets=resets.T, **options)
    agree(pad_packed_sequence(output, batch_first=True, total_length=T)[0], want.detach().double())
    for mine, theirs in zip(last, witness, strict=True):
        agree(mine, theirs.detach().double())
    for mine, theirs in zip(*gates, *shown, strict=True) if gates else []:
        for gate, value in zip(mine, theirs, strict=True):
            agree(gate, value.transpose(0, 1)[:longest].detach().double())


def test_second_derivatives(make: Any) -> None:
    ours = make(bidirectional=True)[0].double()
    packed = padded([2, 6, 1, 6], enforce_sorted=False)

    def of(data: Tensor) -> Tensor:
        output: Tensor = ours(packed._replace(data=data))[0].data
        return output

    data = packed.data.double().requires_grad_()
    assert torch.autograd.gradcheck(of, data, fast_mode=True)
    assert torch.autograd.gradgradcheck(of, data, fast_mode=True)


def test_dropout_falls_between_layers(make: Any) -> None:
    ours: nn.Module = make(num_layers=2, dropout=0.5)[0]
    packed = padded([2, 6, 1, 6], enforce_sorted=False)
    assert not torch.equal(ours(packed)[0].data, ours(packed)[0].data)
    ours.eval()
    assert torch.equal(ours(packed)[0].data, ours(packed)[0].data)
