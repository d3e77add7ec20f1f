"""The kernels as torch operators: one recurrent layer, in one direction or both, over a whole sequence.

`conveyor::recurrent` computes the layer and, where a gradient will be asked for, keeps its gates and cell states;
`conveyor::recurrent_backward` is back-propagation through time. Both serve float32 on the CPU. Everything else takes
the equations, by the one rule in `uses_kernels`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from conveyor import _kernels, equations

_kernels.share_openmp()  # torch's own threads: a second set would have to share the cores with them

_threads: int | None = None


def set_num_threads(threads: int | None) -> None:
    """Sets how many threads the kernels may use; None, the default, means as many as torch does."""
    global _threads
    if threads is not None and threads < 1:
        raise ValueError(f"[set_num_threads] threads: expected at least 1, or None for torch's number, got {threads}")
    _threads = threads


def get_num_threads() -> int:
    """How many threads the kernels may use; they take fewer where more would not pay."""
    return _threads or torch.get_num_threads()


class Layer(NamedTuple):
    """What one layer of D directions gives: output [T, B, D*H], h_n and c_n [D, B, H] (with a projection h [., B, P]).

    c_n is empty but for the LSTM; gates [D, T, B, 4, H] (i, f, g, o) and cells [D, T, B, H] unless asked for.
    """

    output: Tensor
    h_n: Tensor
    c_n: Tensor
    gates: Tensor
    cells: Tensor


def uses_kernels(*tensors: Tensor | None) -> bool:
    """Whether the kernels serve these tensors: float32 on the CPU. Anything else goes through the equations."""
    return all(t is None or (t.dtype is torch.float32 and t.is_cpu) for t in tensors)


def layer(
    cell: str, input: Tensor, h_0: Tensor, c_0: Tensor | None, weights: Sequence[equations.Weights], *,
    lengths: Tensor | None = None, resets: Tensor | None = None, every: int = 1, gates: bool = False,
) -> Layer:  # fmt: skip
    """One layer of D = 1 or 2 directions: input [T, B, I], h_0 [D, B, P or H], c_0 [D, B, H] or None.

    cell: "lstm", "gru", "rnn_tanh" or "rnn_relu"; weights, lengths [B] and resets [T, B] as in
    `conveyor.equations`, a `Weights` for each direction; every: training keeps the belt of each such step and
    computes those between again; gates: whether they are asked for.
    """
    flat = [w for direction in weights for w in direction if w is not None]
    plain = cell != "gru" and weights[0].w_hr is None and lengths is None and resets is None and not gates
    if not (plain and uses_kernels(input, h_0, c_0, *flat)) or _transformed():
        return by_equations(cell, input, h_0, c_0, weights, lengths=lengths, resets=resets, gates=gates)
    c_0 = h_0.new_empty(0) if c_0 is None else c_0
    wanted = torch.is_grad_enabled() and any(t.requires_grad for t in (input, h_0, c_0, *flat))
    keep = wanted or torch.jit._trace.is_tracing()  # a constant there: the trace is compared with one without gradients
    return Layer(*torch.ops.conveyor.recurrent(cell, input, h_0, c_0, flat, keep))


def by_equations(
    cell: str, input: Tensor, h_0: Tensor, c_0: Tensor | None, weights: Sequence[equations.Weights], *,
    lengths: Tensor | None = None, resets: Tensor | None = None, gates: bool = False,
) -> Layer:  # fmt: skip
    """The same layer in plain torch, for any device, dtype, order of derivative and transform."""
    check_lengths(cell, lengths, input.shape[0])
    belts = [None] * len(weights) if c_0 is None else c_0
    directions = [
        _direction(cell, input, h_0[d], belts[d] if cell == "lstm" else None, weights[d], d == 1, lengths, resets)
        for d in range(len(weights))
    ]
    outputs, h_n, c_n, seen = zip(*directions, strict=True)
    output, kept, cells = torch.cat(outputs, dim=-1), input.new_empty(0), input.new_empty(0)
    if cell == "lstm" and gates:
        kept = torch.stack([torch.stack(direction[:4], dim=2) for direction in seen])
        cells = torch.stack([direction.c for direction in seen])
    return Layer(output, torch.stack(h_n), torch.stack(c_n) if cell == "lstm" else input.new_empty(0), kept, cells)


def _direction(
    cell: str, input: Tensor, h_0: Tensor, c_0: Tensor | None, weights: equations.Weights, reverse: bool,
    lengths: Tensor | None, resets: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor | None, equations.Gates | None]:  # fmt: skip
    """One direction by the equations: output, h_n, c_n and the gates, these two of the LSTM alone."""
    if c_0 is not None:
        return equations.lstm(input, h_0, c_0, weights, reverse=reverse, lengths=lengths, resets=resets)
    run = equations.gru if cell == "gru" else partial(equations.rnn, nonlinearity=cell.removeprefix("rnn_"))
    output, h_n = run(input, h_0, weights, reverse=reverse, lengths=lengths, resets=resets)
    return output, h_n, None, None


def check_lengths(cell: str, lengths: Tensor | None, steps: int) -> None:
    """Refuse lengths [B] that are not in 0…T. A graph that is being traced or transformed has no values to refuse."""
    if lengths is None or not _has_values():
        return
    wrong = ((lengths < 0) | (lengths > steps)).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise RuntimeError(
            f"[{cell}] lengths: expected 0 to T = {steps} steps in every row, got {int(lengths[row])} in row {row}"
        )


def _has_values() -> bool:
    traced = torch.compiler.is_compiling() or torch.jit._trace.is_tracing()
    return not traced and not _transformed()


def _transformed() -> bool:
    """Whether vmap, grad or jvp of torch.func are at work; a graph being compiled sees to them by itself."""
    return not torch.compiler.is_compiling() and torch._C._functorch.peek_interpreter_stack() is not None


def by_direction(weights: Sequence[Tensor], directions: int) -> list[equations.Weights]:
    """The weights of each direction, of those in a row that there are: two to five of each."""
    each = len(weights) // directions
    return [_named(weights[d * each : (d + 1) * each]) for d in range(directions)]


def _named(weights: Sequence[Tensor]) -> equations.Weights:
    w_ih, w_hh, *others = weights
    w_hr = others.pop() if len(others) % 2 else None  # an odd one is the projection: there are two biases or none
    b_ih, b_hh = others or (None, None)
    return equations.Weights(w_ih, w_hh, b_ih, b_hh, w_hr)


_library = torch.library.Library("conveyor", "DEF")
_library.define(
    "recurrent(str cell, Tensor input, Tensor h_0, Tensor c_0, Tensor[] weights, bool keep) -> "
    "(Tensor output, Tensor h_n, Tensor c_n, Tensor gates, Tensor cells)",
    tags=(torch.Tag.pt2_compliant_tag,),
)
_library.define(
    "recurrent_backward(str cell, Tensor? dy, Tensor? dh_n, Tensor? dc_n, Tensor input, Tensor h_0, Tensor c_0, "
    "Tensor[] weights, Tensor output, Tensor gates, Tensor cells, bool input_wanted, bool weights_wanted) -> "
    "(Tensor dx, Tensor dh_0, Tensor dc_0, Tensor[] dweights)",
    tags=(torch.Tag.pt2_compliant_tag,),
)


def _outputs(
    cell: str, input: Tensor, h_0: Tensor, c_0: Tensor, weights: Sequence[Tensor], keep: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What `recurrent` returns, not yet filled: gates [D, T, B, 4, H] and cells [D, T, B, H], empty unless kept."""
    steps, batch = input.shape[:2]
    directions, _, hidden = h_0.shape
    output = input.new_empty(steps, batch, directions * hidden)
    belt = keep and cell == "lstm"
    gates = input.new_empty((directions, steps, batch, 4, hidden) if belt else 0)
    cells = input.new_empty((directions, steps, batch, hidden) if belt else 0)
    return output, h_0.new_empty(h_0.shape), c_0.new_empty(c_0.shape), gates, cells


def _gradients(
    cell: str, dy: Tensor | None, dh_n: Tensor | None, dc_n: Tensor | None, input: Tensor, h_0: Tensor, c_0: Tensor,
    weights: Sequence[Tensor], output: Tensor, gates: Tensor, cells: Tensor, input_wanted: bool, weights_wanted: bool,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:  # fmt: skip
    dx = input.new_empty(input.shape if input_wanted else 0)
    dweights = [w.new_empty(w.shape) for w in weights] if weights_wanted else []
    return dx, h_0.new_empty(h_0.shape), c_0.new_empty(c_0.shape), dweights


def _dense(t: Tensor) -> Tensor:
    return t if t.stride(-1) == 1 or t.shape[-1] == 1 else t.contiguous()


def _forward(
    cell: str, input: Tensor, h_0: Tensor, c_0: Tensor, weights: Sequence[Tensor], keep: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    results = output, h_n, c_n, gates, cells = _outputs(cell, input, h_0, c_0, weights, keep)
    if input.shape[1] == 0:
        return results
    belt = cell == "lstm"
    _kernels.forward(
        cell, _dense(input), h_0.contiguous(), c_0.contiguous() if belt else None, [w.contiguous() for w in weights],
        output, h_n, c_n if belt else None, gates if keep and belt else None, cells if keep and belt else None,
        get_num_threads(),
    )  # fmt: skip
    return results


def _backward(
    cell: str, dy: Tensor | None, dh_n: Tensor | None, dc_n: Tensor | None, input: Tensor, h_0: Tensor, c_0: Tensor,
    weights: Sequence[Tensor], output: Tensor, gates: Tensor, cells: Tensor, input_wanted: bool, weights_wanted: bool,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:  # fmt: skip
    results = dx, dh_0, dc_0, dweights = _gradients(
        cell, dy, dh_n, dc_n, input, h_0, c_0, weights, output, gates, cells, input_wanted, weights_wanted
    )
    if input.shape[1] == 0:
        for dw in dweights:
            dw.zero_()
        return results
    belt = cell == "lstm"
    _kernels.backward(
        cell, _dense(input), h_0.contiguous(), c_0.contiguous() if belt else None, [w.contiguous() for w in weights],
        output, gates if belt else None, cells if belt else None, _dense(dy) if dy is not None else None,
        dh_n.contiguous() if dh_n is not None else None, dc_n.contiguous() if dc_n is not None and belt else None,
        dx if input_wanted else None, dh_0, dc_0 if belt else None, dweights,
        get_num_threads(),
    )  # fmt: skip
    return results


_library.impl("recurrent", _forward, "CPU")
_library.impl("recurrent_backward", _backward, "CPU")
torch.library.register_fake("conveyor::recurrent", _outputs, lib=_library)
torch.library.register_fake("conveyor::recurrent_backward", _gradients, lib=_library)


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    cell, input, h_0, c_0, weights, _ = inputs
    y, _, _, gates, cells = output
    ctx.set_materialize_grads(False)
    ctx.cell, ctx.weights = cell, len(weights)
    ctx.save_for_backward(input, h_0, c_0, y, gates, cells, *weights)
    ctx.mark_non_differentiable(gates, cells)


def _differentiate(ctx, dy, dh_n, dc_n, _gates, _cells):  # type: ignore[no-untyped-def]
    input, h_0, c_0, y, gates, cells, *weights = ctx.saved_tensors
    if torch.is_grad_enabled():
        return _differentiate_by_equations(ctx, (dy, dh_n, dc_n), input, h_0, c_0, weights)
    input_wanted, weights_wanted = ctx.needs_input_grad[1], any(ctx.needs_input_grad[4])
    dx, dh_0, dc_0, dweights = torch.ops.conveyor.recurrent_backward(
        ctx.cell, dy, dh_n, dc_n, input, h_0, c_0, weights, y, gates, cells, input_wanted, weights_wanted
    )
    belt = ctx.cell == "lstm"
    return (
        None, dx if input_wanted else None, dh_0, dc_0 if belt else None,
        dweights if weights_wanted else [None] * len(weights), None,
    )  # fmt: skip


def _differentiate_by_equations(ctx, gradients, input, h_0, c_0, weights):  # type: ignore[no-untyped-def]
    """The gradient as a graph, where it will be differentiated again: the kernels have no second derivative."""
    # Views: where one argument was computed from another, the gradient of each still ends at itself.
    arguments = [t.view_as(t) for t in (input, h_0, c_0, *weights)]
    x, h, c, *ws = arguments
    results = by_equations(ctx.cell, x, h, c, by_direction(ws, h_0.shape[0]))
    pairs = [(y, dy) for y, dy in zip(results[:3], gradients, strict=True) if dy is not None]
    outputs, dys = zip(*pairs, strict=True)
    wanted = [t for t in arguments if t.requires_grad]
    found = iter(torch.autograd.grad(outputs, wanted, dys, create_graph=True, allow_unused=True))
    dx, dh_0, dc_0, *dweights = (next(found) if t.requires_grad else None for t in arguments)
    return None, dx, dh_0, dc_0, dweights, None


torch.library.register_autograd("conveyor::recurrent", _differentiate, setup_context=_setup_context, lib=_library)
