"""A token drawn from probabilities, which may be sharpened and cut short before."""

from __future__ import annotations

import torch
from torch import Tensor


def draw(logits: Tensor, generator: torch.Generator, temperature: float = 1, top_k: int = 0, top_p: float = 1) -> int:
    """A number, drawn from softmax(logits [V] / temperature); a temperature of 0 takes the likeliest.

    Only the `top_k` likeliest are drawn from, if it is not 0, and of these the first that have `top_p` together
    (Holtzman et al. 2020).
    """
    if temperature == 0:
        return int(logits.argmax())
    scaled = (logits.double() - logits.max()) / temperature  # no overflow, however cold
    p, order = scaled.softmax(0).sort(descending=True, stable=True)
    if top_k:
        p[top_k:] = 0
    p[p.cumsum(0) - p >= top_p] = 0  # keeps the first token that reaches top_p
    return int(order[torch.multinomial(p, 1, generator=generator)])
