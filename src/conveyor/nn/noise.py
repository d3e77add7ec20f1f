"""What a variant of the LSTM draws at random."""

import torch
from torch import Tensor
from torch.nn import functional

from conveyor.equations import Weights
from conveyor.variant import Variant


def draw(variant: Variant, x: Tensor, directions: int, H: int, training: bool) -> Tensor | None:
    """[D, T, B, N, H], as `equations.variant` takes it for x [T, B, I]; None where nothing is drawn."""
    if not variant.noise:
        return None
    T, B = x.shape[:2]
    factors = x.new_empty(directions, T, B, len(variant.noise), H, dtype=torch.float32)
    for name, factor in zip(variant.noise, factors.unbind(3), strict=True):
        rate = getattr(variant, name)
        if name.startswith("zoneout"):
            factor.bernoulli_(rate) if training else factor.fill_(rate)
        elif name == "variational_dropout":
            factor.copy_(_kept(x.new_empty(directions, 1, B, H, dtype=torch.float32), rate))
        else:
            _kept(factor, rate)
    return factors


def _kept(factor: Tensor, rate: float) -> Tensor:
    return factor.bernoulli_(1 - rate).div_(1 - rate)


def dropped(weights: Weights, rate: float) -> Weights:
    """With some of the recurrent weights zero, the others the larger for it."""
    w_gh = None if weights.w_gh is None else functional.dropout(weights.w_gh, rate)
    return weights._replace(w_hh=functional.dropout(weights.w_hh, rate), w_gh=w_gh)
