"""The way of a pen, as features that a recurrent network reads."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from conveyor.nn.spectrogram import stacked

FEATURES = 6


class InkFeatures(nn.Module):
    """So many points of a line at a time: where the pen goes on from each, where it jumps to, and how high it is.

    In training each line is stretched and slanted as another hand would have written it, and its points tremble.

    Args:
        stack: points of a step.
        apart: their distance.
        slant, stretch: deviation of the shear and of the scales, in training.
        tremble: deviation of each coordinate in training, in distances.

    Shapes: points [N, B, 4] as `conveyor.data.ink.even` gives them, lengths [B]; to features
    [ceil(N / stack), B, 6 stack], zero past a row's end, and their lengths.
    """

    def __init__(
        self, stack: int, apart: float, slant: float = 0.2, stretch: float = 0.1, tremble: float = 0.1
    ) -> None:
        super().__init__()
        self.stack, self.apart = stack, apart
        self.slant, self.stretch, self.tremble = slant, stretch, tremble
        self.size = FEATURES * stack

    def forward(self, points: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The features, and how many steps each row has."""
        place, start = points[..., :2].float(), points[..., 2:3].float()
        if self.training:
            skip = int(torch.randint(self.stack, ()))  # points are not always put together alike
            place, start, lengths = self._rewritten(place)[skip:], start[skip:], (lengths - skip).clamp_min(1)
        moved = torch.cat([torch.zeros_like(place[:1]), place[1:] - place[:-1]])
        each = torch.cat([moved * (1 - start) / self.apart, moved * start, place[..., 1:], start], -1)
        there = torch.arange(len(each))[:, None] < lengths
        return stacked(each * there[..., None], self.stack), -(-lengths // self.stack)

    def _rewritten(self, place: Tensor) -> Tensor:
        """By another hand: y down is written as (x, y) A with a shear, scales and a little turning."""
        B = place.shape[1]
        shear, turn = self.slant * torch.randn(B), 0.1 * self.slant * torch.randn(B)
        wide, high = (self.stretch * torch.randn(2, B)).exp()
        A = torch.stack([wide, turn, shear, high], -1).view(B, 2, 2)
        tremble = self.tremble * self.apart * torch.randn_like(place)
        return torch.einsum("nbi,bij->nbj", place, A) + tremble


class ColumnCNN(nn.Module):
    """Convolutions over the image of a line, which halve its width twice, and a vector of each column that is left.

    Shapes: columns [W, B, height] of grey values 0 (paper) to 255 (ink), lengths [B]; to features [ceil(W / 4), B, O],
    zero past a row's end, and their lengths.
    """

    def __init__(self, height: int, output_size: int, dropout: float) -> None:
        super().__init__()
        sizes = (1, 16, 32, 64)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU())
            for before, after in pairwise(sizes)
        )
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(64 * -(-height // 8), output_size)
        self.size = output_size

    def forward(self, columns: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The features, and how many steps each row has."""
        x = columns.permute(1, 2, 0)[:, None].float() / 255  # [B, 1, height, W]
        for layer, across in zip(self.layers, (2, 2, 1), strict=True):
            there = torch.arange(x.shape[-1]) < lengths[:, None]
            x = layer(x) * there[:, None, None]  # past a row's end is paper
            x, lengths = max_pool2d(x, (2, across), ceil_mode=True), -(-lengths // across)
        there = torch.arange(x.shape[-1]) < lengths[:, None]
        seen = self.output(self.dropout(x).permute(3, 0, 1, 2).flatten(2)).relu()
        return seen * there.T[..., None], lengths
