"""One recurrent layer, in one direction or both: by the kernels where they serve, else by the equations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad

from conveyor import batching, equations  # noqa: F401  batching: what the operators are under vmap
from conveyor.derivatives import Arguments, recurrent
from conveyor.fallback import Layer, by_equations

SERVED = (torch.float32, torch.bfloat16)


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
    if why_not(input, h_0, c_0, flat):
        return by_equations(cell, input, h_0, c_0, weights, lengths=lengths, resets=resets, gates=gates)
    h, c = h_0.to(input.dtype), input.new_empty(0, dtype=torch.float32) if c_0 is None else c_0.float()
    wanted = torch.is_grad_enabled() and any(t.requires_grad for t in (input, h_0, c, *flat))
    keep = wanted or torch.jit._trace.is_tracing()  # a constant there: the trace is compared with one without gradients
    arguments = Arguments(cell, input, h, c, flat, lengths, resets, 1 if gates else every if keep else 0)
    output, h_n, c_n, all_gates, cells = recurrent(arguments)
    return Layer(output, h_n, c_n if c_0 is None else c_n.to(c_0.dtype), all_gates, cells)


def why_not(input: Tensor, h_0: Tensor, c_0: Tensor | None, weights: Sequence[Tensor]) -> str | None:
    """What keeps the kernels from these tensors, or None: the one rule.

    The kernels serve the CPU: input of float32, or of bfloat16 with weights of either, differentiated backward.
    """
    for t in (input, h_0, *([] if c_0 is None else [c_0]), *weights):
        if not t.is_cpu:
            return f"a tensor on {t.device.type}: the kernels run on the CPU"
        if t.dtype not in SERVED or (t.dtype is torch.bfloat16 and input.dtype is torch.float32):
            return f"a tensor of {t.dtype} with an input of {input.dtype}: the kernels compute float32 and bfloat16"
    if forward_ad._current_level >= 0:
        return "forward-mode differentiation: the kernels differentiate backward"
    return None
