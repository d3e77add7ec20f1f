"""What the operators are under `torch.func.vmap`, and under autograd's own.

Over inputs and states the samples become rows of one larger batch. The weights' gradients of each sample then follow
from the gradients of its sums by one batched product. Over weights, as in an ensemble, each member is a call.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_legacy_batchedtensor
from torch.utils._pytree import tree_map

from conveyor.ops.cells import before, by_direction, cell_named, past_end
from conveyor.ops.operators import library


def _rows(t: Tensor | None, dim: int | None, rows: int, N: int) -> Tensor | None:
    """Samples [N, …] laid side by side along the dimension that counts rows."""
    if t is None:
        return None
    if t.dim() - (dim is not None) <= rows:  # nothing, as the belt of a cell without one
        return t.new_empty(0)
    t = t.unsqueeze(rows).expand(*t.shape[:rows], N, *t.shape[rows:]) if dim is None else t.movedim(dim, rows)
    return t.flatten(rows, rows + 1)


def _samples(t: Tensor, rows: int, N: int) -> tuple[Tensor, int | None]:
    """The reverse: the tensor, and the dimension that counts samples."""
    return (t, None) if t.dim() <= rows else (t.unflatten(rows, (N, -1)), rows)


def _recurrent(info: Any, in_dims: Any, cell: str, input, h_0, c_0, weights, lengths, resets, noise, every):  # type: ignore[no-untyped-def]
    N, of_weights = info.batch_size, in_dims[4]
    if any(dim is not None for dim in of_weights):
        arguments = (input, h_0, c_0, weights, lengths, resets, noise, every)
        return _each(torch.ops.conveyor.recurrent, N, in_dims, cell, *arguments)
    folded = [_rows(t, dim, rows, N) for t, dim, rows in zip((input, h_0, c_0), in_dims[1:4], (1, 1, 1), strict=True)]
    steps = [
        _rows(t, dim, rows, N) for t, dim, rows in zip((lengths, resets, noise), in_dims[5:8], (0, 1, 2), strict=True)
    ]
    results = torch.ops.conveyor.recurrent(cell, *folded, weights, *steps, every)
    return tuple(zip(*(_samples(t, rows, N) for t, rows in zip(results, (1, 1, 1, 2, 2), strict=True)), strict=True))


def _recurrent_backward(info: Any, in_dims: Any, cell: str, *arguments):  # type: ignore[no-untyped-def]
    N = info.batch_size
    dims = in_dims[1:]
    operator = torch.ops.conveyor.recurrent_backward
    weights, of_weights, wanted = arguments[8], dims[8], arguments[16:]
    projected = len(weights) // arguments[6].shape[0 if dims[6] != 0 else 1] % 2 == 1
    elsewhere = arguments[15] > 1 and dims[11] is None  # belts kept of one batch stand in other lanes of a larger one
    summed = (projected or cell_named(cell).variant) and wanted[2]
    if any(dim is not None for dim in of_weights) or summed or elsewhere:
        return _each(operator, N, in_dims, cell, *arguments)
    rows = (1, 1, 1, 2, 2, 1, 1, 1, None, 1, 2, 2, 0, 1, 2)
    folded = [
        t if place is None else _rows(t, dim, place, N) for t, dim, place in zip(arguments, dims, rows, strict=False)
    ]
    every, (of_input, of_states, of_weights_too, of_sums) = arguments[15], wanted
    dx, dh_0, dc_0, _, dsums = operator(cell, *folded, every, of_input, of_states, False, of_weights_too or of_sums)
    dweights = _weight_gradients(cell, folded, dsums, N) if of_weights_too else []
    small = [_samples(t, 1, N) for t in (dx, dh_0, dc_0)]
    sums = _samples(dsums, 2, N) if of_sums else (dsums.new_empty(0), None)
    values, places = zip(*small, (dweights, [0] * len(dweights)), sums, strict=True)
    return tuple(values), tuple(places)


def _weight_gradients(cell: str, folded: Sequence[Any], dsums: Tensor, N: int) -> list[Tensor]:
    """Of each sample: the sums over its steps and rows."""
    input, h_0, _, weights, output = folded[5:10]
    lengths, resets = folded[12:14]
    D, found = h_0.shape[0], []
    if lengths is not None:  # whatever lies past a row's end, NaN as well, is multiplied by zero
        past = past_end(lengths, input.shape[0])
        input = input.masked_fill(past.unsqueeze(-1), 0)
    for d, of in enumerate(by_direction(cell, weights, D)):
        h_before = before(output.chunk(D, dim=-1)[d], h_0[d], d == 1, lengths, resets)
        of_input, of_hidden = _parts(cell, dsums[d])
        found += [_products(of_input, input, N), _products(of_hidden, h_before, N)]
        if of.b_ih is not None:
            found += [_sums(of_input, N), _sums(of_hidden, N)]
    return [dw.to(w.dtype) for dw, w in zip(found, weights, strict=True)]


def _parts(cell: str, dsums: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of the sums of the input's product and of the recurrent one, in torch's order of gates."""
    if cell != "gru":
        return dsums, dsums
    n, r, z, recurrent = dsums.chunk(4, dim=-1)
    return torch.cat([r, z, n], dim=-1), torch.cat([r, z, recurrent], dim=-1)


def _sums(of: Tensor, N: int) -> Tensor:
    total: Tensor = of.unflatten(1, (N, -1)).sum(dim=(0, 2))
    return total


def _products(of: Tensor, with_: Tensor, N: int) -> Tensor:
    """[N, G, K] = sum over steps and rows of [T, N*B, G] and [T, N*B, K]."""
    of, with_ = (t.unflatten(1, (N, -1)).movedim(1, 0).flatten(1, 2) for t in (of, with_.to(of.dtype)))
    return of.transpose(1, 2) @ with_


def _each(operator: Any, N: int, in_dims: Any, cell: str, *arguments: Any) -> Any:
    """A call for every sample, its results put together."""

    def take(argument: Any, dim: Any, n: int) -> Any:
        if isinstance(argument, list | tuple):
            return [take(t, d, n) for t, d in zip(argument, dim, strict=True)]
        return argument if dim is None else argument.select(dim, n)

    calls = [
        operator(cell, *(take(t, dim, n) for t, dim in zip(arguments, in_dims[1:], strict=True))) for n in range(N)
    ]
    results, places = [], []
    for values in zip(*calls, strict=True):
        several = isinstance(values[0], list | tuple)
        results.append([torch.stack(parts) for parts in zip(*values, strict=True)] if several else torch.stack(values))
        places.append([0] * len(values[0]) if several else 0)
    return tuple(results), tuple(places)


def _by_autograd(cell: str, *arguments: Any) -> Any:
    """`recurrent_backward` under the vmap of is_grads_batched=True and vectorize=True: of several cotangents."""
    if torch._C._dispatch_tls_is_dispatch_key_excluded(torch._C.DispatchKey.AutogradFunctionality):
        raise RuntimeError(  # the graph that an autograd.Function records is lost on this vmap's way out
            f"[{cell}] backward: expected create_graph=False with is_grads_batched=True or vectorize=True, got True; "
            "use torch.func.vmap or torch.func.jacrev"
        )
    level = torch._C._vmapmode_increment_nesting() - 1  # torch tells it in no other way
    torch._C._vmapmode_decrement_nesting()
    cotangents, others = arguments[:5], arguments[5:]
    dims = [0 if t is not None and is_legacy_batchedtensor(t) else None for t in cotangents]
    samples = [
        t if dim is None else torch._remove_batch_dim(t, level, 1, 0) for t, dim in zip(cotangents, dims, strict=True)
    ]
    N = next(len(t) for t, dim in zip(samples, dims, strict=True) if dim is not None)
    in_dims = (None, *dims, *([None] * len(t) if isinstance(t, list) else None for t in others))
    values, places = _recurrent_backward(SimpleNamespace(batch_size=N), in_dims, cell, *samples, *others)
    return tree_map(lambda t, dim: t if dim is None else torch._add_batch_dim(t, dim, level), values, places)


torch.library.register_vmap("conveyor::recurrent", _recurrent, lib=library)
torch.library.register_vmap("conveyor::recurrent_backward", _recurrent_backward, lib=library)
library.impl("recurrent_backward", _by_autograd, "Batched")
