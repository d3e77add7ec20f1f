"""What a call will run on, told before it runs."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.func import functional_call
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import tree_map

from conveyor import _kernels, ops
from conveyor.ops.cells import cell_named
from conveyor.ops.threads import get_num_threads


class Call(NamedTuple):
    """How one layer of a network will be computed.

    module: where it stands in the model; cell: "lstm", "gru", "rnn_tanh" or "rnn_relu"; path: "kernels" or
    "equations"; reason: what keeps it off the kernels, or None; isa: the instruction set, threads: how many, both of
    the kernels; dtype: what it computes in; keeps: what is kept for the backward pass.
    """

    module: str
    cell: str
    path: str
    reason: str | None
    isa: str
    threads: int
    dtype: torch.dtype
    keeps: str

    def __str__(self) -> str:
        name = f"{self.module or 'the module'} ({self.cell}, {str(self.dtype).removeprefix('torch.')})"
        if self.path == "equations":
            return f"{name}: equations, because of {self.reason}"
        return f"{name}: kernels, {self.isa}, threads: {self.threads}, keeps {self.keeps}"


class Explanation(list[Call]):
    """A `Call` for each recurrent layer, in the order they run; as text, a line each."""

    def __str__(self) -> str:
        return "\n".join(map(str, self)) or "no layer of Conveyor's runs here"


def explain(module: nn.Module, *args: Any, **kwargs: Any) -> Explanation:
    """Tell how `module(*args, **kwargs)` will be computed: by the kernels or the equations, and why.

    Takes any module with Conveyor's layers inside. Nothing is computed: shapes alone go through the module, with
    gradients on or off, autocast and derivatives as where it is called. Only where shapes depend on values, as those of
    a sequence that is packed inside, is the module run; it stays as it was.

    >>> from conveyor import LSTM
    >>> (call,) = explain(LSTM(3, 4, dtype=torch.float64), torch.randn(5, 2, 3, dtype=torch.float64))
    >>> call.path, call.reason
    ('equations', 'a tensor of torch.float64: the kernels compute float32 and bfloat16')
    """
    calls, where = Explanation(), [""]

    def watch(cell: str, input: Tensor, h_0: Tensor, weights: Any, every: int, reason: str | None) -> None:
        (T, B, I), (_, H), keeps = input.shape, weights[0].w_ih.shape, _keeps(every)
        of = cell_named(cell)
        H = weights[0].w_hh.shape[0] // of.gates
        threads = _kernels.threads_used(of.kernel, of.options, len(h_0), T, B, I, H, h_0.shape[-1], get_num_threads())
        path = "equations" if reason else "kernels"
        calls.append(Call(where[-1], cell, path, reason, _kernels.isa(), threads, input.dtype, keeps))

    if not isinstance(module, nn.Module):
        raise TypeError(f"[explain] module: expected a torch.nn.Module, got {type(module).__name__}")
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}  # which a call may change
    with _Places(module, where), ops.watching(watch):
        try:
            with FakeTensorMode(allow_non_fake_inputs=True) as mode:
                of_shapes = partial(_shape, mode)
                fake = tree_map(of_shapes, (args, kwargs), is_leaf=lambda part: isinstance(part, PackedSequence))
                functional_call(module, buffers, *fake)
        except (DynamicOutputShapeException, DataDependentOutputException):
            calls.clear()
            with torch.random.fork_rng(devices=[]):
                functional_call(module, buffers, args, kwargs)
    return calls


def _shape(mode: FakeTensorMode, part: Any) -> Any:
    """A tensor without its values; of a PackedSequence the data alone, since the others count its rows."""
    if isinstance(part, PackedSequence):
        return part._replace(data=_shape(mode, part.data))
    if not isinstance(part, Tensor):
        return part
    if is_functorch_wrapped_tensor(part):  # what a transform wraps cannot always be copied: the view of a dual number
        return torch.empty(part.shape, dtype=part.dtype, device=part.device)
    return mode.from_tensor(part)


def _keeps(every: int) -> str:
    return {0: "nothing", 1: "the gates of every step"}.get(every, f"the belt of every {every}th tick")


class _Places:
    """While it lives, the last of `names` is that of the module which runs."""

    def __init__(self, model: nn.Module, names: list[str]) -> None:
        self.model, self.names, self.hooks = model, names, list[Any]()

    def __enter__(self) -> None:
        for name, module in self.model.named_modules():
            self.hooks.append(module.register_forward_pre_hook(lambda *_, name=name: self.names.append(name)))
            self.hooks.append(module.register_forward_hook(lambda *_: self.names.pop() and None, always_call=True))

    def __exit__(self, *_: Any) -> None:
        for hook in self.hooks:
            hook.remove()
