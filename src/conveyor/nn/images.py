"""Images as a decoder's memory."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


class PlacesEncoder(nn.Module):
    """A feature map and a description of the whole as values and summary.

        m_p = ReLU(W n(√x_p)),  s = tanh(U [n(mean_p √x_p), n(v)])

    of places x_p and the whole v. Features behind a ReLU are mostly zero, with a few in the hundreds: the root, keeping
    the sign, and layer normalisation n bring them to one scale.

    Shapes: maps [B, P, D], vectors [B, V]; values [P, B, O], summary [B, O].
    """

    def __init__(self, map_size: int, vector_size: int, output_size: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm_places, self.norm_mean = nn.LayerNorm(map_size), nn.LayerNorm(map_size)
        self.norm_whole = nn.LayerNorm(vector_size) if vector_size else nn.Identity()
        self.places = nn.Linear(map_size, output_size)
        self.summary = nn.Linear(map_size + vector_size, output_size)
        self.dropout = nn.Dropout(dropout)
        self.value_size = output_size

    def forward(self, maps: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Values and summary."""
        x = maps.sign() * maps.abs().sqrt()
        values = self.places(self.dropout(self.norm_places(x))).relu().transpose(0, 1)
        whole = torch.cat([self.norm_mean(x.mean(1)), self.norm_whole(vectors)], -1)
        return self.dropout(values), self.dropout(self.summary(self.dropout(whole)).tanh())


class SmallCNN(nn.Module):
    """Convolutions that halve an image until few places are left: pixels [B, S, S, C], 0 to 255, to maps [B, P, D]."""

    def __init__(self, channels: int = 3, map_size: int = 128, halvings: int = 4) -> None:
        super().__init__()
        widths = [channels, *(max(16, map_size >> n) for n in range(halvings - 1, -1, -1))]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.map_size = widths[-1]

    def forward(self, pixels: Tensor) -> Tensor:
        """The maps."""
        x = pixels.permute(0, 3, 1, 2).float() / 128 - 1
        maps: Tensor = self.layers(x).flatten(2).transpose(1, 2)
        return maps
