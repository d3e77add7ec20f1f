"""Frames of energy as a recurrent network reads them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

MASKS = 2


class SpecAugment(nn.Module):
    """In training hides bands, and stretches of frames, of each recording (D. Park et al. 2019, arXiv 1904.08779).

    Args:
        bands, frames: most of them that are hidden at once; 0 hides none. Of the frames at most a fifth at once.

    Shapes: frames [T, B, bands], lengths [B]; to the same, the hidden ones zero.
    """

    def __init__(self, bands: int, frames: int) -> None:
        super().__init__()
        self.bands, self.frames = bands, frames

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """The frames, some of them hidden."""
        if not self.training or not (self.bands or self.frames):
            return frames
        T, B, F = frames.shape
        hidden = torch.zeros(T, B, F, dtype=torch.bool)
        for _ in range(MASKS):
            wide = (torch.rand(B) * (self.bands + 1)).long().clamp_max(F)
            hidden |= _stretch(F, wide, torch.full((B,), F))[None].expand(T, -1, -1)
            long = (torch.rand(B) * (self.frames + 1)).long().minimum(lengths // 5)
            hidden |= _stretch(T, long, lengths).T[..., None]
        return frames.masked_fill(hidden, 0.0)


def _stretch(count: int, width: Tensor, within: Tensor) -> Tensor:
    """[B, count]: a stretch of each width, somewhere within."""
    first = (torch.rand(len(width)) * (within - width + 1)).long()
    places = torch.arange(count)
    return (places >= first[:, None]) & (places < (first + width)[:, None])


def stacked(each: Tensor, count: int) -> Tensor:
    """Frames [T, B, F] so many at a time, [ceil(T / count), B, count F]; zeros fill the last."""
    T, B, F = each.shape
    short = -T % count
    whole = torch.cat([each, each.new_zeros(short, B, F)]) if short else each
    return whole.view(-1, count, B, F).transpose(1, 2).reshape(-1, B, count * F)
