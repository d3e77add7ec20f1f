"""What a recurrent layer refuses: torch's exception types; where, expected, got, what to do."""

import warnings

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence


def sizes(**named: object) -> None:
    """Each is an int above zero."""
    for name, size in named.items():
        if not isinstance(size, int):
            raise TypeError(f"{name}: expected an int, got {size!r} of type {type(size).__name__}")
        if size <= 0:
            raise ValueError(f"{name}: expected an int greater than zero, got {size}")


def flags(**named: object) -> None:
    """Each is True or False."""
    for name, flag in named.items():
        if not isinstance(flag, bool):
            raise TypeError(f"{name}: expected True or False, got {flag!r} of type {type(flag).__name__}")


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
    if isinstance(input, PackedSequence):
        raise NotImplementedError(
            f"[{where}] input: expected a tensor, got a PackedSequence, which is not supported yet; "
            "unpack it with torch.nn.utils.rnn.pad_packed_sequence"
        )
    if not isinstance(input, Tensor):
        raise TypeError(f"[{where}] input: expected a tensor, got {type(input).__name__}")
    single, got = input.dim() == 2, list(input.shape)
    symbols = "[T, I]" if single else "[B, T, I]" if batch_first else "[T, B, I]"
    if input.dim() not in (2, 3):
        raise ValueError(f"[{where}] input: expected {symbols}, or [T, I] for a single sequence, got {got}")
    if input.dtype != weight.dtype and not _autocast(input):
        raise ValueError(
            f"[{where}] input: expected {weight.dtype} like the weights, got {input.dtype}; "
            f"convert input.to({weight.dtype})"
        )
    tensor(where, "input", input, (*input.shape[:-1], size), symbols, weight)
    if input.shape[1 if batch_first and not single else 0] == 0:
        raise RuntimeError(f"[{where}] input: expected {symbols} with one time step or more, got {got}")


def tensor(where: str, name: str, tensor: Tensor, shape: tuple[int, ...], symbols: str, like: Tensor) -> None:
    """Of that shape, and of the device and dtype of `like`."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"[{where}] {name}: expected a tensor {symbols}, got {type(tensor).__name__}")
    if tensor.shape != shape:
        raise RuntimeError(f"[{where}] {name}: expected {symbols} = {list(shape)}, got {list(tensor.shape)}")
    if tensor.device != like.device:
        raise RuntimeError(
            f"[{where}] {name}: expected device {like.device}, got {tensor.device}; move all to one device"
        )
    if tensor.dtype != like.dtype and not _autocast(tensor):
        raise RuntimeError(
            f"[{where}] {name}: expected {like.dtype}, got {tensor.dtype}; convert {name}.to({like.dtype})"
        )


def _autocast(tensor: Tensor) -> bool:
    kind = tensor.device.type
    if not torch.amp.is_autocast_available(kind) or not tensor.is_floating_point():
        return False
    return torch.is_autocast_enabled(kind)
