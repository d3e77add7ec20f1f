"""The kernels as torch operators: one recurrent layer, in one direction or both, over a whole sequence.

`conveyor::recurrent` computes the layer and, where a gradient will be asked for, keeps its gates and cell states;
`conveyor::recurrent_backward` is back-propagation through time. Both serve float32 on the CPU. Everything else takes
the equations, by the one rule in `uses_kernels`.
"""

from __future__ import annotations

from collections.abc import Sequence

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


def uses_kernels(*tensors: Tensor | None) -> bool:
    """Whether the kernels serve these tensors: float32 on the CPU. Anything else goes through the equations."""
    return all(t is None or (t.dtype is torch.float32 and t.is_cpu) for t in tensors)


def lstm(
    input: Tensor, h_0: Tensor, c_0: Tensor, weights: Sequence[equations.Weights]
) -> tuple[Tensor, Tensor, Tensor]:
    """One LSTM layer: input [T, B, I], h_0 and c_0 [D, B, H], D = 1 or 2 directions.

    weights: for each direction (w_ih [4H, I], w_hh [4H, H], b_ih [4H], b_hh [4H]), the biases both or none.
    Returns output [T, B, D H], h_n and c_n [D, B, H].
    """
    return _layer("lstm", input, h_0, c_0, weights)


def rnn(input: Tensor, h_0: Tensor, weights: Sequence[equations.Weights], nonlinearity: str) -> tuple[Tensor, Tensor]:
    """One Elman layer, as `lstm` but with w_ih [H, I] and w_hh [H, H]; nonlinearity "tanh" or "relu"."""
    output, h_n, _ = _layer(f"rnn_{nonlinearity}", input, h_0, h_0.new_empty(0), weights)
    return output, h_n


def _layer(
    cell: str, input: Tensor, h_0: Tensor, c_0: Tensor, weights: Sequence[equations.Weights]
) -> tuple[Tensor, Tensor, Tensor]:
    flat = [w for direction in weights for w in direction if w is not None]
    if not uses_kernels(input, h_0, c_0, *flat):
        return by_equations(cell, input, h_0, c_0, flat)
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in (input, h_0, c_0, *flat))
    output, h_n, c_n, _, _ = torch.ops.conveyor.recurrent(cell, input, h_0, c_0, flat, keep)
    return output, h_n, c_n


def by_equations(
    cell: str, input: Tensor, h_0: Tensor, c_0: Tensor, weights: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """The same layer in plain torch, for any device, dtype and order of derivative."""
    outputs, h_n, c_n = [], [], []
    for d, direction in enumerate(_by_direction(weights, h_0.shape[0])):
        reverse = d == 1
        if cell == "lstm":
            output, h, c = equations.lstm(input, h_0[d], c_0[d], direction, reverse=reverse)
            c_n.append(c)
        else:
            nonlinearity = cell.removeprefix("rnn_")
            output, h = equations.rnn(input, h_0[d], direction, nonlinearity, reverse=reverse)
        outputs.append(output)
        h_n.append(h)
    return torch.cat(outputs, dim=-1), torch.stack(h_n), torch.stack(c_n) if c_n else c_0


def _by_direction(weights: Sequence[Tensor], directions: int) -> list[equations.Weights]:
    each = len(weights) // directions  # 2 without biases, 4 with them
    parts = (list(weights[d * each : (d + 1) * each]) for d in range(directions))
    return [(w_ih, w_hh, *(biases or (None, None))) for w_ih, w_hh, *biases in parts]


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
    results = by_equations(ctx.cell, x, h, c, ws)
    pairs = [(y, dy) for y, dy in zip(results, gradients, strict=True) if dy is not None]
    outputs, dys = zip(*pairs, strict=True)
    wanted = [t for t in arguments if t.requires_grad]
    found = iter(torch.autograd.grad(outputs, wanted, dys, create_graph=True, allow_unused=True))
    dx, dh_0, dc_0, *dweights = (next(found) if t.requires_grad else None for t in arguments)
    return None, dx, dh_0, dc_0, dweights, None


torch.library.register_autograd("conveyor::recurrent", _differentiate, setup_context=_setup_context, lib=_library)
