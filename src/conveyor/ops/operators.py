"""The kernels as torch operators: one recurrent layer, in one direction or both, over a whole sequence.

`conveyor::recurrent` computes the layer and, where a gradient will be asked for, keeps what that needs;
`conveyor::recurrent_backward` is back-propagation through time.

The large arrays are all float32 or all bfloat16; the belt (c_0, c_n) and what is kept (gates, cells) are float32.
`every` is 0 to keep nothing, 1 for the gates and cells of every step, n for the belt of every n-th tick alone, from
which backward works out the rest. What does not apply is an empty tensor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from conveyor import _kernels
from conveyor.ops.cells import cell_named, for_kernels, from_kernels
from conveyor.ops.threads import get_num_threads

LARGE = 1 << 18
"""Values from which on an array's memory is kept for the next one."""

PLAIN = {Tensor, torch.nn.Parameter, type(None)}
"""Types that show nobody what is done with them."""

Results = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
Gradients = tuple[Tensor, Tensor, Tensor, list[Tensor], Tensor]

library = torch.library.Library("conveyor", "DEF")
library.define(
    "recurrent(str cell, Tensor input, Tensor h_0, Tensor c_0, Tensor[] weights, Tensor? lengths, Tensor? resets, "
    "Tensor? noise, int every) -> (Tensor output, Tensor h_n, Tensor c_n, Tensor gates, Tensor cells)",
    tags=(torch.Tag.pt2_compliant_tag,),
)
library.define(
    "recurrent_backward(str cell, Tensor? dy, Tensor? dh_n, Tensor? dc_n, Tensor? dgates, Tensor? dcells, "
    "Tensor input, Tensor h_0, Tensor c_0, Tensor[] weights, Tensor output, Tensor gates, Tensor cells, "
    "Tensor? lengths, Tensor? resets, Tensor? noise, int every, bool of_input, bool of_states, "
    "bool of_weights, bool of_sums) -> (Tensor dx, Tensor dh_0, Tensor dc_0, Tensor[] dweights, Tensor dsums)",
    tags=(torch.Tag.pt2_compliant_tag,),
)


def _fake(like: Tensor, *shape: int) -> Tensor:
    return like.new_empty(*shape)  # one by one: a tuple takes torch twice the time


def _empty(like: Tensor, *shape: int) -> Tensor:
    """A tensor to fill; a large one in memory that an earlier one had, whose pages need not be fetched again."""
    if math.prod(shape) < LARGE:
        return like.new_empty(*shape)
    large: Tensor = _kernels.empty(like, shape, like.dtype is torch.bfloat16)
    return large


def results(
    cell: str, input: Tensor, h_0: Tensor, c_0: Tensor, weights: Sequence[Tensor], lengths: Tensor | None,
    resets: Tensor | None, noise: Tensor | None, every: int, empty: Callable[..., Tensor] = _fake,
) -> Results:  # fmt: skip
    """What `recurrent` returns, not yet filled: gates [D, T, B, K, H] and cells [D, T, B, H]."""
    of, (T, B), (D, _, R) = cell_named(cell), input.shape[:2], h_0.shape
    H = weights[0].shape[0] // of.gates
    seen = of.seen(H)
    P = R - seen
    output = empty(input, T, B, D * P)
    gates = empty(c_0, D, T, B, of.kept, H) if every == 1 and of.kept else c_0.new_empty(0)
    if every == 0 or not of.belt:
        belts = c_0.new_empty(0)
    elif every == 1:
        belts = empty(c_0, D, T, B, H)
    else:  # as many as kernels/lanes.hpp says, not all of them used
        belts = c_0.new_zeros(D, T // every + 1 if lengths is None else 2 * T // every + 2, B, H + seen)
    return output, empty(h_0, *h_0.shape), empty(c_0, *c_0.shape), gates, belts


def gradients(
    cell: str, dy: Tensor | None, dh_n: Tensor | None, dc_n: Tensor | None, dgates: Tensor | None,
    dcells: Tensor | None, input: Tensor, h_0: Tensor, c_0: Tensor, weights: Sequence[Tensor], output: Tensor,
    gates: Tensor, cells: Tensor, lengths: Tensor | None, resets: Tensor | None, noise: Tensor | None, every: int,
    of_input: bool, of_states: bool, of_weights: bool, of_sums: bool, empty: Callable[..., Tensor] = _fake,
) -> Gradients:  # fmt: skip
    """What `recurrent_backward` returns, not yet filled: dsums [D, T, B, S*H], of the sums before activation."""
    of, (T, B), D = cell_named(cell), input.shape[:2], h_0.shape[0]
    sums = of.sums * weights[0].shape[0] // of.gates
    return (
        empty(input, *input.shape) if of_input else input.new_empty(0),
        h_0.new_empty(*h_0.shape) if of_states else h_0.new_empty(0),
        c_0.new_empty(*c_0.shape) if of_states else c_0.new_empty(0),
        [w.new_empty(*w.shape) for w in weights] if of_weights else [],
        c_0.new_empty((D, T, B, sums) if of_sums else 0),
    )


def _dense(t: Tensor | None) -> Tensor | None:
    """The same values, of which those of a row lie side by side, and none is to be negated as it is read."""
    return t if t is None or ((t.stride(-1) == 1 or t.shape[-1] == 1) and not t.is_neg()) else _anew(t)


# Torch is asked to change nothing but what is not so already: each time costs as much as a step of a small cell.


def _whole(t: Tensor | None) -> Tensor | None:
    return t if t is None or (t.is_contiguous() and not t.is_neg()) else _anew(t)


def _anew(t: Tensor) -> Tensor:
    return t.resolve_neg().contiguous()


def _floats(t: Tensor) -> Tensor:
    """float32, contiguous."""
    return t if t.dtype is torch.float32 and t.is_contiguous() and not t.is_neg() else _anew(t.float())


def _wide(t: Tensor | None) -> Tensor | None:
    return None if t is None else _floats(t)


def _rows(t: Tensor | None) -> Tensor | None:
    """Noise [D, T, B, N, H]: the values of a row lie together, in float32."""
    return t if t is None or (t.dtype is torch.float32 and t[0, 0, 0].is_contiguous()) else t.float().contiguous()


def _given(t: Tensor) -> Tensor | None:
    """None in the place of an empty tensor."""
    return t.contiguous() if t.numel() else None


def forward(
    cell: str, input: Tensor, h_0: Tensor, c_0: Tensor, weights: Sequence[Tensor], lengths: Tensor | None,
    resets: Tensor | None, noise: Tensor | None, every: int,
) -> Results:  # fmt: skip
    """What `recurrent` does on the CPU."""
    all = output, h_n, c_n, gates, cells = results(
        cell, input, h_0, c_0, weights, lengths, resets, noise, every, _empty
    )
    if input.shape[1] == 0:
        return all
    of = cell_named(cell)
    run = _kernels.forward if input.dtype is torch.float32 else _kernels.forward_bfloat16
    run(
        of.kernel, of.options, _dense(input), _whole(h_0), _whole(c_0) if of.belt else None,
        for_kernels(cell, [_floats(w) for w in weights], h_0.shape[0]), _rows(noise), output, h_n,
        c_n if of.belt else None, _given(gates), _given(cells), _whole(lengths), _whole(resets),
        every, torch.are_deterministic_algorithms_enabled(), get_num_threads(),
    )  # fmt: skip
    return all


def plain_forward(
    cell: str, sizes: tuple[int, int, int, int], input: Tensor, h_0: Tensor | None, c_0: Tensor | None,
    weights: Sequence[Tensor], lengths: Tensor | None, resets: Tensor | None, learns: bool,
) -> list[Tensor | None] | None:  # fmt: skip
    """`Results` of a layer in float32, None in the place of what it has not; sizes D, I, H and P; no state is zeros.

    None alone where an argument is not as the kernels take it, or wrong: `forward`, and checks before it, are for
    those. They take four times their usual time after a long sequence, which leaves nothing of Python in the caches:
    together some hundredths of the call.
    """
    if lengths is not None and lengths.is_neg():
        return None
    of, alone = cell_named(cell), torch.are_deterministic_algorithms_enabled()
    found: list[Tensor | None] | None = _kernels.plain(
        of.kernel, of.options, *sizes, input, h_0, c_0, weights, lengths, resets, learns, alone, get_num_threads()
    )
    return found


def backward(
    cell: str, dy: Tensor | None, dh_n: Tensor | None, dc_n: Tensor | None, dgates: Tensor | None,
    dcells: Tensor | None, input: Tensor, h_0: Tensor, c_0: Tensor, weights: Sequence[Tensor], output: Tensor,
    gates: Tensor, cells: Tensor, lengths: Tensor | None, resets: Tensor | None, noise: Tensor | None, every: int,
    of_input: bool, of_states: bool, of_weights: bool, of_sums: bool, dnoise: Tensor | None = None,
) -> Gradients:  # fmt: skip
    """What `recurrent_backward` does on the CPU. dnoise: filled with the gradient of a tangent's step."""
    found = dx, dh_0, dc_0, dweights, dsums = gradients(
        cell, dy, dh_n, dc_n, dgates, dcells, input, h_0, c_0, weights, output, gates, cells, lengths, resets, noise,
        every, of_input, of_states, of_weights, of_sums, _empty,
    )  # fmt: skip
    if input.shape[1] == 0:
        for dw in dweights:
            dw.zero_()
        return found
    if every < 1:
        raise RuntimeError(
            f"[{cell}] backward: expected a forward pass that kept its gates, got one with every={every}"
        )
    of, wide = cell_named(cell), input.dtype is torch.float32
    # The kernels add up in float32; a bfloat16 weight or state takes the rounded sum.
    given = for_kernels(cell, [_floats(w) for w in weights], len(h_0))
    direct = not of.extras and all(dw.dtype is torch.float32 for dw in dweights)
    dws = dweights if direct else [torch.empty_like(w) for w in given] if of_weights else []
    dh = dh_0 if wide or not of_states else torch.empty_like(dh_0, dtype=torch.float32)
    run = _kernels.backward if wide else _kernels.backward_bfloat16
    run(
        of.kernel, of.options, _dense(input), _whole(h_0), _whole(c_0) if of.belt else None, given,
        _rows(noise), _dense(output), _given(gates), _given(cells), _dense(dy), _wide(dh_n),
        _wide(dc_n) if of.belt else None, _wide(dgates), _wide(dcells), dx if of_input else None,
        dh if of_states else None, dc_0 if of_states and of.belt else None, dws, dsums if of_sums else None, dnoise,
        _whole(lengths), _whole(resets), every, torch.are_deterministic_algorithms_enabled(), get_num_threads(),
    )  # fmt: skip
    dws = from_kernels(cell, dws, weights, len(h_0)) if of_weights else []
    for to, sums in zip([*dweights, dh_0], [*dws, dh], strict=True):
        if to is not sums:
            to.copy_(sums)
    return found


library.impl("recurrent", forward, "CPU")
library.impl("recurrent_backward", backward, "CPU")
torch.library.register_fake("conveyor::recurrent", results, lib=library)
torch.library.register_fake("conveyor::recurrent_backward", gradients, lib=library)
