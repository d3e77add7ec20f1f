"""The derivatives of the operators: the first by the kernels, those of it by their tangent or by the equations.

Each stands twice, since torch keeps two ways: registered with the operator, which compilers see through, and as
`torch.autograd.Function`s, which alone serve the transforms of `torch.func`, and take less time a call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._C import _is_tracing, _len_torch_dispatch_stack
from torch._C._autograd import _profiler_enabled
from torch._C._functorch import is_legacy_batchedtensor, peek_interpreter_stack
from torch.compiler import is_compiling

from conveyor.ops.cells import by_direction, cell_named
from conveyor.ops.fallback import by_equations, transformed
from conveyor.ops.operators import PLAIN, Gradients, Results, backward, forward, library, plain_forward
from conveyor.ops.tangent import has_tangent, of_gates, tangent


class Arguments(NamedTuple):
    """Of a layer, as `conveyor::recurrent` takes them."""

    cell: str
    input: Tensor
    h_0: Tensor
    c_0: Tensor
    weights: Sequence[Tensor]
    lengths: Tensor | None
    resets: Tensor | None
    noise: Tensor | None
    every: int

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """All but the weights, then those."""
        return self.input, self.h_0, self.c_0, self.lengths, self.resets, self.noise, *self.weights

    def replaced(self, tensors: Sequence[Any]) -> Arguments:
        """With other tensors, in the order of `tensors`."""
        input, h_0, c_0, lengths, resets, noise, *weights = tensors
        return Arguments(self.cell, input, h_0, c_0, weights, lengths, resets, noise, self.every)


def recurrent(arguments: Arguments) -> Results:
    """The operator, differentiable by every means."""
    tensors = arguments.tensors
    quiet = unwatched(tensors)
    if _by_function() and quiet:
        results = _Unwatched.of(arguments)
    elif _by_function():
        results = _Recurrent.apply(arguments.replaced([None] * len(tensors)), *tensors)
    elif quiet:
        results = forward(*arguments)
    else:
        results = torch.ops.conveyor.recurrent(*arguments)
    return results


def plain(
    cell: str, sizes: tuple[int, int, int, int], input: Tensor, h_0: Tensor | None, c_0: Tensor | None = None, *,
    weights: Sequence[Tensor], lengths: Tensor | None = None, resets: Tensor | None = None,
) -> Sequence[Tensor] | None:  # fmt: skip
    """Output, h_n and, of a cell with a belt, c_n, of a layer that nothing watches; None where it needs the checks."""
    given = (input, h_0, c_0, lengths, resets, *weights)
    if not PLAIN.issuperset(map(type, given)):
        return None
    (D, _, H, P), belt = sizes, cell_named(cell).belt
    learns = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in given)
    if not learns:
        found: Any = plain_forward(cell, sizes, input, h_0, c_0, weights, lengths, resets, learns)
        return None if found is None else found[: 2 + belt]
    h_0 = input.new_zeros(D, input.shape[1], P) if h_0 is None else h_0
    c_0 = c_0 if c_0 is not None else input.new_zeros(D, input.shape[1], H) if belt else input.new_empty(0)
    found = plain_forward(cell, sizes, input, h_0, c_0, weights, lengths, resets, learns)
    if found is None:
        return None
    results: Any = tuple(input.new_empty(0) if t is None else t for t in found)
    return _Unwatched.of(Arguments(cell, input, h_0, c_0, weights, lengths, resets, None, 1), results)[: 2 + belt]


def recurrent_backward(
    arguments: Arguments, cotangents: Sequence[Tensor | None], kept: Sequence[Tensor], wanted: Sequence[bool]
) -> Gradients:
    """Its gradients, as the operator gives them, differentiable by every means."""
    if not _by_function():
        name, input, h_0, c_0, weights, *others = arguments
        quiet = unwatched((*cotangents, *arguments.tensors, *kept)) and not _batched(cotangents)
        operator: Any = backward if quiet else torch.ops.conveyor.recurrent_backward
        found: Gradients = operator(name, *cotangents, input, h_0, c_0, weights, *kept, *others, *wanted)
        return found
    empty = arguments.replaced([None] * len(arguments.tensors))
    dx, dh_0, dc_0, dsums, *dweights = _RecurrentBackward.apply(
        empty, tuple(wanted), *cotangents, *kept, *arguments.tensors
    )
    return dx, dh_0, dc_0, dweights, dsums


def _run(operator: Any, *arguments: Any) -> Any:
    """The operator, past its registered derivative where no transform would be passed over with it."""
    if transformed():
        return operator(*arguments)
    with torch._C._AutoDispatchBelowAutograd():
        return operator(*arguments)


def _by_function() -> bool:
    return torch.is_grad_enabled() and not is_compiling() and not _is_tracing()


def unwatched(tensors: Sequence[Tensor | None]) -> bool:
    """Whether nothing would see the operator pass, so that the way through torch, a third of a small call, is for
    nothing: no compiler, tracer, transform, mode or profiler, and no tensors but torch's own."""
    return not (
        is_compiling()
        or _is_tracing()
        or peek_interpreter_stack() is not None
        or _len_torch_dispatch_stack()
        or _profiler_enabled()
        or not PLAIN.issuperset(map(type, tensors))
    )


def _batched(tensors: Sequence[Tensor | None]) -> bool:
    """Whether any is of several gradients at once, as `torch.autograd.grad(is_grads_batched=True)` asks for them."""
    return any(t is not None and is_legacy_batchedtensor(t) for t in tensors)


def _gradients(
    arguments: Arguments, cotangents: Sequence[Tensor | None], kept: Sequence[Tensor], needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None, list[Tensor | None]]:
    """Those needed of input, h_0, c_0 and all weights."""
    of_input, of_h, of_c, of_weights = needed
    dx, dh_0, dc_0, dweights, _ = recurrent_backward(
        arguments, cotangents, kept, (of_input, of_h or of_c, of_weights, False)
    )
    return (
        dx if of_input else None, dh_0 if of_h else None, dc_0 if of_c and cell_named(arguments.cell).belt else None,
        list(dweights) if of_weights else [None] * len(arguments.weights),
    )  # fmt: skip


def _second(
    arguments: Arguments, cotangents: Sequence[Tensor | None], kept: Sequence[Tensor],
    seconds: Sequence[Tensor | None], needed: Sequence[bool],
) -> tuple[list[Tensor | None], Tensor | None, Tensor | None, Tensor | None, list[Tensor | None]]:  # fmt: skip
    """The gradients, by cotangents, input, h_0, c_0 and weights, of `recurrent_backward`.

    seconds: the cotangents of dx, dh_0, dc_0 and each of dweights; needed: which of input, h_0, c_0 and weights. What
    `recurrent_backward` was given of the forward pass follows from the arguments of that, so that all of the gradient
    is theirs.
    """
    name, belt = arguments.cell, cell_named(arguments.cell).belt
    places = [number for number, t in enumerate(cotangents) if t is not None and (belt or number < 2)]

    def layer(input: Tensor, h_0: Tensor, c_0: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        results = by_equations(
            name, input, h_0, c_0.to(input.dtype) if belt else None,
            [of.to(input.dtype) for of in by_direction(name, weights, h_0.shape[0])],
            lengths=arguments.lengths, resets=arguments.resets, noise=arguments.noise, gates=belt,
        )  # fmt: skip
        return tuple(results[number] for number in places)

    tensors = (arguments.input, arguments.h_0, arguments.c_0, *arguments.weights)
    dys = [cotangents[number] for number in places]
    if transformed() or torch.is_grad_enabled():
        found: tuple[Sequence[Tensor], Sequence[Tensor | None]] = _by_transforms(layer, dys, tensors, seconds)
    elif (
        has_tangent(name, arguments.weights, len(arguments.h_0))
        and unwatched((*cotangents, *seconds, *kept, *arguments.tensors))
        and not _batched((*cotangents, *seconds))
    ):
        found = _by_tangent(arguments, places, dys, kept, seconds, needed)
    else:
        found = _by_autograd(layer, dys, tensors, seconds)
    of_cotangents, (input, h_0, c_0, *weights) = found
    of = dict(zip(places, of_cotangents, strict=True))
    return [of.get(number) for number in range(len(cotangents))], input, h_0, c_0 if belt else None, weights


def _by_tangent(
    arguments: Arguments, places: Sequence[int], dys: Sequence[Any], kept: Sequence[Tensor],
    seconds: Sequence[Tensor | None], needed: Sequence[bool],
) -> tuple[Sequence[Tensor], Sequence[Tensor | None]]:  # fmt: skip
    """By the kernels: the gradient of how the layer's results change, where what it takes changes along `seconds`.

    direct: that at fixed output, gates and cells; through: the part by way of those, the layer's own gradient.
    """
    name, *given, own, lengths, resets, _, every = arguments
    input, h_0, c_0, *weights = taken = [t.detach().float().requires_grad_() for t in (*given, *own)]
    wide = Arguments(name, input, h_0, c_0, weights, lengths, resets, None, 1)
    if every != 1:
        output, _, _, gates, cells = recurrent(wide)
        kept = output, gates, cells
    output, gates, cells = kept = [t.detach().float().requires_grad_() for t in kept]
    with torch.enable_grad():
        along = [None if t is None or not t.numel() else t.float() for t in seconds]
        changes = list(tangent(input, h_0, c_0, weights, lengths, resets, output, gates, cells, along))
        if 3 in places:
            changes[3] = of_gates(gates, changes[3], lengths)
    of_cotangents = [changes[number] for number in places]
    dys = [dy.float() for dy in dys]
    dy, dgates, dcells, *direct = torch.autograd.grad(of_cotangents, [*kept, *taken], dys, allow_unused=True)
    *of_others, of_weights = _gradients(wide, (dy, None, None, dgates, dcells), kept, needed)
    through = [*of_others, *of_weights]
    both = [b if a is None or b is None else a + b for a, b in zip(direct, through, strict=True)]
    return [t.detach() for t in of_cotangents], both


def _by_transforms(
    layer: Callable[..., tuple[Tensor, ...]], dys: Sequence[Any], tensors: Sequence[Tensor], seconds: Sequence[Any]
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """The gradients of the layer's gradients, by what the layer gave and what it took; with gradients of their own."""

    def first(dys: Sequence[Tensor], tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        results, pull, *_ = torch.func.vjp(layer, *tensors)
        found: tuple[Tensor, ...] = pull(tuple(dy.to(y.dtype) for y, dy in zip(results, dys, strict=True)))
        return found

    found, pull, *_ = torch.func.vjp(first, tuple(dys), tensors)
    given = tuple(
        torch.zeros_like(to) if t is None or not t.numel() else t for t, to in zip(seconds, found, strict=True)
    )
    pulled: tuple[Sequence[Tensor], Sequence[Tensor]] = pull(given)
    return pulled


def _by_autograd(
    layer: Callable[..., tuple[Tensor, ...]], dys: Sequence[Any], tensors: Sequence[Tensor], seconds: Sequence[Any]
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """The same without; in three quarters of the time, and under hooks of saved tensors."""
    with torch.enable_grad():
        tensors, dys = ([t.detach().requires_grad_() for t in some] for some in (tensors, dys))
        results = layer(*tensors)
        given = [dy.to(y.dtype) for y, dy in zip(results, dys, strict=True)]
        found = torch.autograd.grad(results, tensors, given, create_graph=True, materialize_grads=True)
    pairs = [(to, t) for to, t in zip(found, seconds, strict=True) if t is not None and t.numel() and to.requires_grad]
    if not pairs:
        return [torch.zeros_like(t) for t in dys], [torch.zeros_like(t) for t in tensors]
    tos, ts = zip(*pairs, strict=True)
    pulled = torch.autograd.grad(tos, [*dys, *tensors], ts, materialize_grads=True)
    return pulled[: len(dys)], pulled[len(dys) :]


def _keep(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    arguments = Arguments(*inputs)
    y, _, _, gates, cells = output
    ctx.set_materialize_grads(False)
    ctx.arguments = arguments.replaced([None] * len(arguments.tensors))
    ctx.save_for_backward(y, gates, cells, *arguments.tensors)
    if arguments.every != 1 or not cell_named(arguments.cell).belt:
        ctx.mark_non_differentiable(gates, cells)


def _differentiate(ctx, *cotangents):  # type: ignore[no-untyped-def]
    saved = ctx.saved_tensors  # asked for once: checkpointing computes them again
    kept, tensors = saved[:3], saved[3:]
    _, of_input, of_h, of_c, of_weights, *_ = ctx.needs_input_grad
    needed = (of_input, of_h, of_c, any(of_weights))
    return None, *_gradients(ctx.arguments.replaced(tensors), cotangents, kept, needed), *[None] * 4


def _keep_backward(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    cotangents, kept = inputs[1:6], inputs[10:13]
    arguments = Arguments(inputs[0], *inputs[6:10], *inputs[13:17])
    ctx.set_materialize_grads(False)
    ctx.arguments = arguments.replaced([None] * len(arguments.tensors))
    ctx.save_for_backward(*cotangents, *kept, *arguments.tensors)


def _differentiate_backward(ctx, ddx, ddh_0, ddc_0, ddweights, _):  # type: ignore[no-untyped-def]
    saved = ctx.saved_tensors
    arguments = ctx.arguments.replaced(saved[8:])
    seconds = [ddx, ddh_0, ddc_0, *(ddweights or [None] * len(arguments.weights))]
    of_input, of_h, of_c, of_weights = ctx.needs_input_grad[6:10]
    needed = (of_input, of_h, of_c, any(of_weights))
    of_cotangents, input, h_0, c_0, weights = _second(arguments, saved[:5], saved[5:8], seconds, needed)
    return None, *of_cotangents, input, h_0, c_0, weights, *[None] * 11


torch.library.register_autograd("conveyor::recurrent", _differentiate, setup_context=_keep, lib=library)
torch.library.register_autograd(
    "conveyor::recurrent_backward", _differentiate_backward, setup_context=_keep_backward, lib=library
)


def _pull(ctx, *cotangents):  # type: ignore[no-untyped-def]
    saved = ctx.saved_tensors  # asked for once: checkpointing computes them again
    kept, tensors = saved[:3], saved[3:]
    _, of_input, of_h, of_c, _, _, _, *of_weights = ctx.needs_input_grad
    needed = (of_input, of_h, of_c, any(of_weights))
    *of_others, weights = _gradients(ctx.arguments.replaced(tensors), cotangents, kept, needed)
    return None, *of_others, None, None, None, *weights


class _Unwatched(torch.autograd.Function):
    """Past torch's ways for operators and transforms, which take longer than a small step."""

    @classmethod
    def of(cls, arguments: Arguments, results: Results | None = None) -> Results:
        """The layer's results, those given if there are, with a way back to the arguments."""
        tensors = arguments.tensors
        found: Results = cls.apply((arguments.replaced([None] * len(tensors)), results), *tensors)
        return found

    @staticmethod
    def forward(ctx: Any, call: tuple[Arguments, Results | None], *tensors: Tensor | None) -> Results:
        empty, found = call
        arguments = empty.replaced(tensors)
        results = forward(*arguments) if found is None else found
        _keep(ctx, arguments, results)
        return results

    backward = _pull


class _Recurrent(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(empty: Arguments, *tensors: Tensor | None) -> Results:
        results: Results = _run(torch.ops.conveyor.recurrent, *empty.replaced(tensors))
        return results

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
        empty, *tensors = inputs
        _keep(ctx, empty.replaced(tensors), output)

    backward = _pull


class _RecurrentBackward(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(empty: Arguments, wanted: Sequence[bool], *tensors: Tensor | None) -> tuple[Tensor, ...]:
        name, input, h_0, c_0, weights, *others = empty.replaced(tensors[8:])
        dx, dh_0, dc_0, dweights, dsums = _run(
            torch.ops.conveyor.recurrent_backward,
            name, *tensors[:5], input, h_0, c_0, weights, *tensors[5:8], *others, *wanted,
        )  # fmt: skip
        return dx, dh_0, dc_0, dsums, *dweights

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
        empty, _, *tensors = inputs
        ctx.set_materialize_grads(False)
        ctx.arguments = empty
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx, ddx, ddh_0, ddc_0, _, *ddweights):  # type: ignore[no-untyped-def]
        saved = ctx.saved_tensors
        arguments = ctx.arguments.replaced(saved[8:])
        seconds = [ddx, ddh_0, ddc_0, *(ddweights or [None] * len(arguments.weights))]
        of_input, of_h, of_c, _, _, _, *of_weights = ctx.needs_input_grad[10:]
        needed = (of_input, of_h, of_c, any(of_weights))
        of_cotangents, input, h_0, c_0, weights = _second(arguments, saved[:5], saved[5:8], seconds, needed)
        return None, None, *of_cotangents, *[None] * 3, input, h_0, c_0, None, None, None, *weights
