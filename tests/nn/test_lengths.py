"""What lengths and resets promise beside their values: what does not matter, what passes through, what may be cut."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

Agree = Callable[[Tensor, Tensor], None]
T, B, I, H = 7, 5, 3, 4
LENGTHS = [7, 0, 3, 1, 6]


def flat(result: Any) -> list[Tensor]:
    """Output and states."""
    output, last = result
    return [output, *(last if isinstance(last, tuple) else [last])]


def test_lengths_of_every_kind_are_the_same(make: Any, agree: Agree) -> None:
    ours, _ = make(I, H)
    input = torch.randn(T, B, I)
    want = ours(input, lengths=torch.tensor(LENGTHS))
    tensors = [torch.tensor(LENGTHS, dtype=dtype) for dtype in (torch.int32, torch.int16, torch.uint8)]
    for lengths in (LENGTHS, tuple(LENGTHS), *tensors):
        for mine, theirs in zip(flat(ours(input, lengths=lengths)), flat(want), strict=True):
            agree(mine, theirs.detach().double())


@pytest.mark.parametrize("lengths", [3, torch.tensor(3)], ids=str)
def test_the_length_of_a_single_sequence(make: Any, lengths: Any, agree: Agree) -> None:
    ours, _ = make(I, H, bidirectional=True)
    input = torch.randn(T, I)
    output, *last = flat(ours(input, lengths=lengths))
    want, *witness = flat(ours(input[:3]))
    assert not output[3:].any()
    for mine, theirs in zip([output[:3], *last], [want, *witness], strict=True):
        agree(mine, theirs.double())


def test_full_lengths_and_no_resets_change_nothing(make: Any, states: Any, agree: Agree) -> None:
    ours, _ = make(I, H, num_layers=2, bidirectional=True)
    input, hx = torch.randn(T, B, I), states(ours, B)
    for options in ({"lengths": [T] * B}, {"resets": torch.zeros(T, B, dtype=torch.bool)}):
        for mine, witness in zip(flat(ours(input, hx, **options)), flat(ours(input, hx)), strict=True):
            agree(mine, witness.double())


def test_what_stands_in_the_padding_does_not_matter(make: Any, states: Any, agree: Agree) -> None:
    """Not even NaN, to no result and no gradient."""
    ours, _ = make(I, H, num_layers=2, bidirectional=True)
    input, lengths, resets = torch.randn(T, B, I), [7, 5, 3, 1, 6], torch.rand(T, B) < 0.4
    past, hx, found = torch.arange(T).unsqueeze(1) >= torch.tensor(lengths), states(ours, B), []
    for filling in (0.0, float("nan")):
        filled = torch.where(past.unsqueeze(2), filling, input).requires_grad_()
        results = flat(ours(filled, hx, lengths=lengths, resets=resets))
        gradients = torch.autograd.grad(results[0].square().sum(), [filled, *ours.parameters()])
        assert not gradients[0][past].any()
        found.append([*results, *gradients])
    for clean, broken in zip(*found, strict=True):
        agree(broken, clean.detach().double())


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_row_of_no_steps_passes_its_states_through(make: Any, states: Any, bidirectional: bool) -> None:
    ours, _ = make(I, H, num_layers=2, bidirectional=bidirectional)
    input, hx = torch.randn(T, B, I, requires_grad=True), states(ours, B)
    given = [s.requires_grad_() for s in (hx if isinstance(hx, tuple) else [hx])]
    output, *last = flat(ours(input, hx, lengths=[0] * B))
    assert not output.any()
    assert all(map(torch.equal, last, given))
    cotangents = [torch.randn_like(s) for s in last]
    *passed, dx = torch.autograd.grad([output, *last], [*given, input], [torch.ones_like(output), *cotangents])
    assert all(map(torch.equal, passed, cotangents))
    assert not dx.any()


@pytest.mark.parametrize("reverse", [False, True])
def test_resets_hold_across_chunks(make: Any, reverse: bool, agree: Agree) -> None:
    """Chunks read one after the other, backward from the last to the first, see the segments of the whole."""
    ours, _ = make(I, H, bidirectional=True)
    input, resets = torch.randn(T, B, I), torch.rand(T, B) < 0.3
    resets[3] = torch.tensor([True, False, True, False, False])  # where it is cut
    whole, end = ours(input, resets=resets)
    parts = [slice(3, T), slice(0, 3)] if reverse else [slice(0, 3), slice(3, T)]
    first, between = ours(input[parts[0]], resets=resets[parts[0]])
    second, last = ours(input[parts[1]], between, resets=resets[parts[1]])
    features = whole.shape[2] // 2
    one = slice(features, None) if reverse else slice(0, features)
    agree(torch.cat([second, first] if reverse else [first, second])[..., one], whole[..., one].double())
    for mine, witness in zip(flat((second, last))[1:], flat((whole, end))[1:], strict=True):
        agree(mine[int(reverse)], witness[int(reverse)].double())


def test_resets_are_what_a_loop_over_steps_does(make: Any, states: Any, agree: Agree) -> None:
    """The loop that reinforcement learning writes: a call a step, the states of a new episode zeroed by hand."""
    ours, torchs = make(I, H, num_layers=2)
    input, hx, resets = torch.randn(T, B, I), states(ours, B), torch.rand(T, B) < 0.3
    output, last = ours(input, hx, resets=resets)
    witness, torchs = [], torchs.double()
    state = [s.double() for s in (hx if isinstance(hx, tuple) else [hx])]
    for x, reset in zip(input.double(), resets, strict=True):
        alive = (~reset).double().unsqueeze(-1)
        state = [s * alive for s in state]
        y, after = torchs(x.unsqueeze(0), tuple(state) if len(state) == 2 else state[0])
        state = list(after) if isinstance(after, tuple) else [after]
        witness.append(y)
    for mine, theirs in zip(flat((output, last)), [torch.cat(witness), *state], strict=True):
        agree(mine, theirs)


def test_an_empty_batch(make: Any) -> None:
    ours, _ = make(I, H, num_layers=2, bidirectional=True)
    output, *last = flat(ours(torch.randn(T, 0, I), lengths=[], resets=torch.zeros(T, 0, dtype=torch.bool)))
    assert output.shape == (T, 0, 2 * (ours.proj_size or H))
    assert [s.shape[:2] for s in last] == [(4, 0)] * len(last)
