"""The parameters of recurrent modules: names, shapes and first values, all as in torch."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from conveyor.equations import Weights
from conveyor.variant import Variant


class Weight(NamedTuple):
    """What a parameter is called, and its shape, in numbers and in the symbols of the error texts."""

    name: str
    shape: tuple[int, ...]
    symbols: str


def direction(
    gates: int, I: int, H: int, P: int, bias: bool, place: str = "", columns: str = "I", variant: Variant | None = None
) -> list[Weight]:
    """The weights of one layer and direction in torch's order, as `named` takes them; P = 0: no projection.

    What a variant has besides stands behind them.
    """
    rows = "H" if gates == 1 else f"{gates}H"
    weights = [
        Weight(f"weight_ih{place}", (gates * H, I), f"[{rows}, {columns}]"),
        Weight(f"weight_hh{place}", (gates * H, P or H), f"[{rows}, {'P' if P else 'H'}]"),
    ]
    if bias:
        weights += [Weight(f"bias_{of}{place}", (gates * H,), f"[{rows}]") for of in ("ih", "hh")]
    if P:
        weights.append(Weight(f"weight_hr{place}", (P, H), "[P, H]"))
    extras = variant.extras(H, place).values() if variant else ()
    return weights + [Weight(name, shape, _symbols(shape, H)) for name, shape in extras]


def _symbols(shape: tuple[int, ...], H: int) -> str:
    return f"[{', '.join('H' if size == H else f'{size // H}H' for size in shape)}]"


def layers(
    gates: int, I: int, H: int, P: int, bias: bool, L: int, D: int, variant: Variant | None = None
) -> list[list[Weight]]:
    """The weights of L layers of D directions, each layer reading the one below it."""
    below, columns = D * (P or H), "D*P" if P else "D*H"
    return [
        direction(gates, below if layer else I, H, P, bias, f"_l{layer}{suffix}", columns if layer else "I", variant)
        for layer in range(L)
        for suffix in ("", "_reverse")[:D]
    ]


def named(tensors: list[Tensor], bias: bool, variant: Variant | None = None) -> Weights:
    """The weights of one layer and direction, from the order of `direction`."""
    extras = tuple(variant.extras(1)) if variant else ()
    plain = tensors[: len(tensors) - len(extras)]
    weights = Weights(*plain) if bias else Weights(plain[0], plain[1], None, None, *plain[2:])
    return weights._replace(**dict(zip(extras, tensors[len(plain) :], strict=True))) if extras else weights


def register(
    module: nn.Module, weights: list[Weight], device: torch.device | str | None, dtype: torch.dtype | None
) -> None:
    """Give the module these parameters, without values yet."""
    for weight in weights:
        setattr(module, weight.name, nn.Parameter(torch.empty(weight.shape, device=device, dtype=dtype)))


def at_hand(module: nn.Module, weights: list[Weight]) -> list[Tensor]:
    """What stands in their places now: parametrizations, functional_call and assignment change it."""
    own: dict[str, Any] = module._parameters  # where the module itself looks last
    return [own[weight.name] if weight.name in own else getattr(module, weight.name) for weight in weights]


def reset(module: nn.Module, H: int) -> None:
    """Draw every parameter from U(-1/√H, 1/√H), in torch's order: the same seed gives torch's numbers.

    Gains of a norm start as 1, its shifts as 0.
    """
    bound = 1 / math.sqrt(H)
    for name, parameter in module.named_parameters():
        if name.startswith("norm_"):
            nn.init.ones_(parameter)
        elif name.startswith("bias_c"):
            nn.init.zeros_(parameter)
        else:
            nn.init.uniform_(parameter, -bound, bound)
