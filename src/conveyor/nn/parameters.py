"""The parameters of recurrent modules: names, shapes and first values, all as in torch."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from conveyor.equations import Weights


class Weight(NamedTuple):
    """What a parameter is called, and its shape, in numbers and in the symbols of the error texts."""

    name: str
    shape: tuple[int, ...]
    symbols: str


def direction(gates: int, I: int, H: int, P: int, bias: bool, place: str = "", columns: str = "I") -> list[Weight]:
    """The weights of one layer and direction in torch's order, as `named` takes them; P = 0: no projection."""
    rows = "H" if gates == 1 else f"{gates}H"
    weights = [
        Weight(f"weight_ih{place}", (gates * H, I), f"[{rows}, {columns}]"),
        Weight(f"weight_hh{place}", (gates * H, P or H), f"[{rows}, {'P' if P else 'H'}]"),
    ]
    if bias:
        weights += [Weight(f"bias_{of}{place}", (gates * H,), f"[{rows}]") for of in ("ih", "hh")]
    if P:
        weights.append(Weight(f"weight_hr{place}", (P, H), "[P, H]"))
    return weights


def layers(gates: int, I: int, H: int, P: int, bias: bool, L: int, D: int) -> list[list[Weight]]:
    """The weights of L layers of D directions, each layer reading the one below it."""
    below, columns = D * (P or H), "D*P" if P else "D*H"
    return [
        direction(gates, below if layer else I, H, P, bias, f"_l{layer}{suffix}", columns if layer else "I")
        for layer in range(L)
        for suffix in ("", "_reverse")[:D]
    ]


def named(tensors: list[Tensor], bias: bool) -> Weights:
    """The weights of one layer and direction, from torch's order."""
    return Weights(*tensors) if bias else Weights(tensors[0], tensors[1], None, None, *tensors[2:])


def register(
    module: nn.Module, weights: list[Weight], device: torch.device | str | None, dtype: torch.dtype | None
) -> None:
    """Give the module these parameters, without values yet."""
    for weight in weights:
        setattr(module, weight.name, nn.Parameter(torch.empty(weight.shape, device=device, dtype=dtype)))


def reset(module: nn.Module, H: int) -> None:
    """Draw every parameter from U(-1/√H, 1/√H), in torch's order: the same seed gives torch's numbers."""
    bound = 1 / math.sqrt(H)
    for parameter in module.parameters():
        nn.init.uniform_(parameter, -bound, bound)
