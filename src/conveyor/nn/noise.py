"""What a variant of the LSTM draws at random."""

import math

import torch
from torch import Tensor

from conveyor.equations import Weights
from conveyor.variant import Variant


def draw(variant: Variant, x: Tensor, directions: int, H: int, training: bool) -> Tensor | None:
    """[D, T, B, N, H], as `equations.variant` takes it for x [T, B, I]; None where nothing is drawn."""
    if not variant.noise:
        return None
    T, B = x.shape[:2]
    dtype = torch.float64 if x.dtype is torch.float64 else torch.float32
    factors = x.new_empty(directions, T, B, len(variant.noise), H, dtype=dtype)
    for name, factor in zip(variant.noise, factors.unbind(3), strict=True):
        rate = getattr(variant, name)
        steps = 1 if name == "variational_dropout" else T  # the same at every step
        if not training:
            factor.fill_(rate)
        elif name.startswith("zoneout"):
            factor.copy_(_chosen(x, (directions, steps, B, H), rate))
        else:
            factor.copy_(_chosen(x, (directions, steps, B, H), 1 - rate)).div_(1 - rate)
    return factors


def _chosen(x: Tensor, shape: tuple[int, ...], rate: float) -> Tensor:
    """True with this probability, to 16 bits of it: four to a random number, a fifth of the time of `bernoulli_`."""
    count = math.prod(shape)
    bits = torch.randint(-(2**63), 2**63 - 1, ((count + 3) // 4,), device=x.device).view(torch.int16)
    return bits[:count].view(shape) < min(round(rate * 2**16) - 2**15, 2**15 - 1)


def dropped(weights: Weights, rate: float) -> Weights:
    """With some of the recurrent weights zero, the others the larger for it."""
    w_gh = None if weights.w_gh is None else _dropped(weights.w_gh, rate)
    return weights._replace(w_hh=_dropped(weights.w_hh, rate), w_gh=w_gh)


def _dropped(w: Tensor, rate: float) -> Tensor:
    return w * _chosen(w, w.shape, 1 - rate) / (1 - rate)
