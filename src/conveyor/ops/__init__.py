"""One recurrent layer, in one direction or both: by the kernels where they serve, else by the equations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, is_autocast_enabled
from torch.autograd import forward_ad

from conveyor import equations
from conveyor.ops import batching  # noqa: F401  what the operators are under vmap
from conveyor.ops.cells import past_end
from conveyor.ops.derivatives import Arguments, plain, recurrent, unwatched
from conveyor.ops.fallback import Layer, by_equations, transformed

__all__ = ["Layer", "layer", "plain", "unobserved", "watching", "why_not"]

SERVED = (torch.float32, torch.bfloat16)


def layer(
    cell: str, input: Tensor, h_0: Tensor, c_0: Tensor | None, weights: Sequence[equations.Weights], *,
    lengths: Tensor | None = None, resets: Tensor | None = None, noise: Tensor | None = None, every: int = 1,
    gates: bool = False,
) -> Layer:  # fmt: skip
    """One layer of D = 1 or 2 directions: input [T, B, I], h_0 [D, B, P or H], c_0 [D, B, H] or None.

    cell: "lstm", "gru", "rnn_tanh", "rnn_relu" or `Variant.cell`; noise [D, T, B, N, H], what such a variant draws;
    weights, lengths [B] and resets [T, B] as in
    `conveyor.equations`, a `Weights` for each direction; every: training keeps the belt of each such step and
    computes those between again; gates: whether they are asked for.
    """
    flat = [w for direction in weights for w in direction if w is not None]
    all = (input, h_0, *flat) if c_0 is None else (input, h_0, c_0, *flat)
    # Under a transform of torch.func the tensors do not say what will be asked for, and rows are joined in new batches.
    joined = transformed()
    wanted = torch.is_grad_enabled() and (joined or any(t.requires_grad for t in all))
    keep = wanted or torch.jit._trace.is_tracing()  # a constant there: the trace is compared with one without gradients
    every = 1 if gates or (keep and joined) else every if keep else 0
    reason = why_not(*all)
    for watch in _watches:
        watch(cell, input, h_0, weights, every, reason)
    if reason:
        weights = [of.to(input.dtype) for of in weights]
        return by_equations(cell, input, h_0, c_0, weights, lengths=lengths, resets=resets, noise=noise, gates=gates)
    h = h_0 if h_0.dtype is input.dtype else h_0.to(input.dtype)
    c = input.new_empty(0, dtype=torch.float32) if c_0 is None else c_0.float()
    arguments = Arguments(cell, input, h, c, flat, lengths, resets, noise, every)
    output, h_n, c_n, all_gates, cells = recurrent(arguments)
    if gates and lengths is not None:  # what is kept past a row's end means nothing
        past = past_end(lengths, len(input)).unsqueeze(-1)
        all_gates, cells = all_gates.masked_fill(past[..., None], 0), cells.masked_fill(past, 0)
    c_n = c_n if c_0 is None or c_n.dtype is c_0.dtype else c_n.to(c_0.dtype)
    return Layer(output, h_n, c_n, all_gates, cells)


def unobserved() -> bool:
    """Whether a call is for its results and their gradients alone: nothing converts, records or explains it."""
    return unwatched(()) and not (is_autocast_enabled("cpu") or forward_ad._current_level >= 0 or _watches)


_watches: list[Callable[..., None]] = []


@contextmanager
def watching(watch: Callable[..., None]) -> Iterator[None]:
    """Meanwhile watch(cell, input, h_0, weights, every, reason) is told of every layer before it runs."""
    _watches.append(watch)
    try:
        yield
    finally:
        _watches.remove(watch)


def why_not(input: Tensor, *others: Tensor) -> str | None:
    """What keeps the kernels from this input, with these states and weights, or None: the one rule.

    The kernels serve the CPU: input of float32, or of bfloat16 with weights of either, differentiated backward.
    """
    served = SERVED if input.dtype is torch.bfloat16 else SERVED[:1]
    for t in (input, *others):
        if not t.is_cpu:
            return f"a tensor on {t.device.type}: the kernels run on the CPU"
        if t.dtype not in served:
            other = "" if t.dtype == input.dtype else f" with an input of {input.dtype}"
            return f"a tensor of {t.dtype}{other}: the kernels compute float32 and bfloat16"
    if forward_ad._current_level >= 0:
        return "forward-mode differentiation: the kernels differentiate backward"
    return None
