"""A soft window over a text, which only moves on (A. Graves 2013, section 5.1)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Seen(NamedTuple):
    """What a window shows at every step."""

    values: Tensor
    """[T, B, V]: the text, where the window is."""
    weights: Tensor
    """phi [T, B, U]"""
    places: Tensor
    """kappa behind the last step [B, K], to go on from."""


class SoftWindow(nn.Module):
    """K Gaussians over the places u of a text, each of which only moves on.

        (a, b, k)_t = exp(W h_t + bias);  kappa_t = kappa_{t-1} + speed k_t
        phi(t, u) = sum_k a_t exp(-b_t (kappa_t - u)^2);  w_t = sum_u phi(t, u) c_u

    h_t does not depend on the window, so that all steps are computed at once.

    Args:
        input_size: of h.
        components: K.
        speed: places that a step moves on at the start.

    Shapes: h [T, B, I], text [U, B, V], lengths [B] of the texts, places [B, K] or None.
    """

    def __init__(self, input_size: int, components: int, speed: float = 0.05) -> None:
        super().__init__()
        self.components, self.speed = components, speed
        self.output = nn.Linear(input_size, 3 * components)

    def forward(self, h: Tensor, text: Tensor, lengths: Tensor, places: Tensor | None = None) -> Seen:
        """What is seen at each step."""
        logs = self.output(h)
        a, b, moved = logs.clamp_max(8.0).exp().chunk(3, -1)
        before = logs.new_zeros(logs.shape[1], self.components) if places is None else places
        kappa = before + (self.speed * moved).cumsum(0)  # [T, B, K]
        u = torch.arange(len(text), device=h.device)
        far = kappa[..., None] - u  # [T, B, K, U]
        phi = (a[..., None] * (-b[..., None] * far.square()).exp()).sum(-2)
        phi = phi * (u < lengths[:, None])
        return Seen(torch.einsum("tbu,ubv->tbv", phi, text), phi, kappa[-1])
