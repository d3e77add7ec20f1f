"""What a recurrent layer refuses: torch's exception types; where, expected, got, what to do."""

import reprlib
import warnings
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch._C._functorch import get_unwrapped, is_functorch_wrapped_tensor
from torch._subclasses.fake_tensor import is_fake
from torch.nn.utils.rnn import PackedSequence

from conveyor.equations import NONLINEARITIES
from conveyor.nn.parameters import Weight
from conveyor.nn.precision import autocast
from conveyor.variant import Variant, variant_named

Shape = Sequence[int]
PACK = "make it with torch.nn.utils.rnn.pack_padded_sequence"


def tracing() -> bool:
    """Whether torch.jit.trace is at work: sizes are tensors then, and a check of one a warning."""
    return bool(torch.jit._trace.is_tracing())


def sizes(**named: object) -> None:
    """Each is an int above zero."""
    for name, size in named.items():
        if not isinstance(size, int):
            raise TypeError(f"{name}: expected an int, got {size!r} of type {type(size).__name__}")
        if size <= 0:
            raise ValueError(f"{name}: expected an int greater than zero, got {size}")
        if size >= 2**63:
            raise ValueError(f"{name}: expected an int below 2^63, got {size}")


def flags(**named: object) -> None:
    """Each is True or False."""
    for name, flag in named.items():
        if not isinstance(flag, bool):
            raise TypeError(f"{name}: expected True or False, got {flag!r} of type {type(flag).__name__}")


def dtype(dtype: object) -> None:
    """One of numbers that take gradients; what is no dtype at all, torch refuses."""
    if isinstance(dtype, torch.dtype) and not (dtype.is_floating_point or dtype.is_complex):
        raise RuntimeError(f"dtype: expected a floating one, torch.float32 for instance, got {dtype}")


def projection(size: object, hidden_size: int) -> None:
    """Zero, or fewer features than there are units."""
    if not isinstance(size, int):
        raise TypeError(f"proj_size: expected an int, got {size!r} of type {type(size).__name__}")
    if not 0 <= size < hidden_size:
        raise ValueError(f"proj_size: expected 0 for none, or an int below hidden_size = {hidden_size}, got {size}")


def variant(given: object, forget_bias: float | None, bias: bool, proj_size: int) -> Variant:
    """A `Variant`, or the name of one, that fits the layer; with the layer's own forget_bias if it has one."""
    if not isinstance(given, str | Variant):
        raise TypeError(f"variant: expected a name or a Variant, got {type(given).__name__}")
    try:
        of = given if isinstance(given, Variant) else variant_named(given)
    except ValueError as error:
        raise ValueError(f"variant: {error}") from None
    if forget_bias is not None:
        of = replace(of, forget_bias=forget_bias)
    if of.forget_bias is not None and not bias:
        raise ValueError(f"forget_bias: expected None with bias=False, got {of.forget_bias!r}")
    if proj_size and of.zoneout_hidden:
        raise ValueError("variant: expected zoneout_hidden=0 with a projection, whose h is no unit's own")
    if not proj_size and of.proj_clip is not None:
        raise ValueError("variant: expected proj_clip=None without proj_size: there is no projection to bound")
    return of


def nonlinearity(name: object) -> None:
    """One of the two there are."""
    if name not in NONLINEARITIES:
        raise ValueError(f"nonlinearity: expected one of {list(NONLINEARITIES)}, got {name!r}")


def dropout(rate: object, num_layers: int) -> None:
    """A probability; with one layer there is nothing to drop out, which torch warns of."""
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
        raise ValueError(f"dropout: expected a probability between 0 and 1, got {rate!r}")
    if rate > 0 and num_layers == 1:
        warnings.warn(
            "dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects "
            f"num_layers greater than 1, but got dropout={rate} and num_layers={num_layers}",
            stacklevel=4,  # the line that makes the layer
        )


def input(where: str, input: Tensor, size: int, batch_first: bool, weight: Tensor) -> None:
    """[T, B, I], [B, T, I] or [T, I], of the weights' dtype and device."""
    if not isinstance(input, Tensor):
        raise TypeError(f"[{where}] input: expected a tensor, got {type(input).__name__}")
    dims = input.dim()
    symbols = "[T, I]" if dims == 2 else "[B, T, I]" if batch_first else "[T, B, I]"
    if dims not in (2, 3):
        got = list(input.shape)
        raise ValueError(f"[{where}] input: expected {symbols}, or [T, I] for a single sequence, got {got}")
    if input.dtype != weight.dtype and not _converted(input):
        raise ValueError(
            f"[{where}] input: expected {weight.dtype} like the weights, got {input.dtype}; "
            f"convert input.to({weight.dtype})"
        )
    tensor(where, "input", input, (*input.shape[:-1], size), symbols, weight)
    if input.shape[1 if batch_first and dims == 3 else 0] == 0:
        raise RuntimeError(f"[{where}] input: expected {symbols} with one time step or more, got {list(input.shape)}")


def step(where: str, name: str, tensor: Tensor, symbols: str, single: str) -> None:
    """Of a cell: one step of a batch, or of a single row."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"[{where}] {name}: expected a tensor {symbols}, got {type(tensor).__name__}")
    if tensor.dim() not in (1, 2):
        raise ValueError(
            f"[{where}] {name}: expected {symbols}, or {single} for a single row, got {list(tensor.shape)}"
        )


def packed(where: str, input: PackedSequence, features: int, lengths: object, h_0: Tensor | None) -> int:
    """How many rows a PackedSequence has, which counts its steps right and brings its own lengths."""
    if lengths is not None:
        raise RuntimeError(f"[{where}] lengths: expected None with a PackedSequence, which has its own")
    data, sizes, order, _ = input
    shape(where, "input.data", data, (*data.shape[:1], features), "[N, I]")
    if torch.compiler.is_compiling():  # sizes, where they tell it: the value would break the graph in two
        return len(order) if order is not None else int(sizes[0]) if h_0 is None else h_0.shape[1]
    counts, N = sizes.tolist(), len(data)  # a list at once: each question put to a tensor costs a microsecond
    if not counts or counts[-1] < 1 or counts != sorted(counts, reverse=True) or sum(counts) != N:
        raise RuntimeError(
            f"[{where}] input.batch_sizes: expected numbers above zero that never rise and sum up to {N} steps, "
            f"got {reprlib.repr(counts)}; {PACK}"
        )
    rows: int = counts[0]
    if order is not None and order.is_cpu and sorted(order.tolist()) != list(range(rows)):
        raise RuntimeError(
            f"[{where}] input.sorted_indices: expected each of the rows 0 to {rows - 1} once, "
            f"got {reprlib.repr(order.tolist())}; {PACK}"
        )
    return rows


def lengths(where: str, lengths: object) -> Tensor:
    """Whole numbers, as a tensor."""
    if isinstance(lengths, int | list | tuple):
        try:
            lengths = torch.tensor(lengths) if lengths not in ([], ()) else torch.empty(0, dtype=torch.int64)
        except (TypeError, ValueError, RuntimeError) as error:
            got = reprlib.repr(lengths)
            raise RuntimeError(f"[{where}] lengths: expected ints from 0 to T, got {got}; give each row one") from error
    if not isinstance(lengths, Tensor):
        raise TypeError(f"[{where}] lengths: expected a tensor or a list of ints, got {type(lengths).__name__}")
    if lengths.dtype is torch.bool or lengths.is_floating_point() or lengths.is_complex():
        raise RuntimeError(f"[{where}] lengths: expected torch.int64, got {lengths.dtype}; convert lengths.long()")
    return lengths


def within(where: str, lengths: Tensor, steps: int, like: Tensor) -> None:
    """None below 0 or above T, where there are values: compiled graphs leave them to the kernels."""
    if torch.compiler.is_compiling():
        return
    values = lengths
    while is_functorch_wrapped_tensor(values):
        values = get_unwrapped(values)
    if lengths.is_meta:
        device(where, "lengths", lengths, like)
    if values.is_meta or (type(values) is not Tensor and is_fake(values)):
        return
    all = values.tolist() if values.dim() == 1 else values.reshape(-1).tolist()
    if all and not 0 <= min(all) <= max(all) <= steps:
        row, wrong = next((row, n) for row, n in enumerate(all) if not 0 <= n <= steps)
        place = f"row {row}" if values.dim() == lengths.dim() else "a row"  # of some sample, under vmap
        raise RuntimeError(f"[{where}] lengths: expected 0 to T = {steps} steps in every row, got {wrong} in {place}")


def resets(where: str, resets: Tensor, size: Shape, symbols: str, like: Tensor) -> None:
    """One bool for each step of each row."""
    shape(where, "resets", resets, size, symbols)
    if resets.dtype is not torch.bool:
        raise RuntimeError(f"[{where}] resets: expected torch.bool, got {resets.dtype}; convert resets.bool()")
    device(where, "resets", resets, like)


def weights(where: str, layout: list[Weight], tensors: list[Tensor], like: Tensor) -> None:
    """Each as it was made: assignment and parametrizations may have changed it."""
    device, dtype = like.device, like.dtype
    for weight, w in zip(layout, tensors, strict=True):
        if w.shape != weight.shape or w.dtype is not dtype or w.device != device:  # at every call: no call a weight
            tensor(where, weight.name, w, weight.shape, weight.symbols, like)


def tensor(where: str, name: str, tensor: Tensor, size: Shape, symbols: str, like: Tensor) -> None:
    """Dense, of that shape, and of the device and dtype of `like`."""
    shape(where, name, tensor, size, symbols)
    if tensor.layout is not torch.strided:
        raise RuntimeError(f"[{where}] {name}: expected a dense tensor, got {tensor.layout}; convert {name}.to_dense()")
    device(where, name, tensor, like)
    if tensor.dtype != like.dtype and not _converted(tensor):
        raise RuntimeError(
            f"[{where}] {name}: expected {like.dtype}, got {tensor.dtype}; convert {name}.to({like.dtype})"
        )


def shape(where: str, name: str, tensor: Tensor, size: Shape, symbols: str) -> None:
    """A tensor of that shape."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"[{where}] {name}: expected a tensor {symbols}, got {type(tensor).__name__}")
    if tensor.shape != size:
        raise RuntimeError(f"[{where}] {name}: expected {symbols} = {list(size)}, got {list(tensor.shape)}")


def device(where: str, name: str, tensor: Tensor, like: Tensor) -> None:
    """On the device of `like`."""
    if tensor.device != like.device:
        raise RuntimeError(
            f"[{where}] {name}: expected device {like.device}, got {tensor.device}; move all to one device"
        )


def pair(where: str, hx: Sequence[Tensor] | None) -> tuple[Tensor | None, Tensor | None]:
    """The two states of an LSTM, or neither."""
    if hx is None:
        return None, None
    if isinstance(hx, (tuple, list)) and len(hx) == 2:
        return hx[0], hx[1]
    got = f"{len(hx)} tensors" if isinstance(hx, (tuple, list)) else f"one {type(hx).__name__}"
    raise RuntimeError(f"[{where}] hx: expected a pair (h_0, c_0), got {got}")


def _converted(tensor: Tensor) -> bool:
    """Whether autocast will bring it to the right dtype."""
    return tensor.is_floating_point() and autocast(tensor.device.type)
