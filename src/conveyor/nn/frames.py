"""Frames of a video as features: a CNN that sees each frame between its neighbours."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

STRAY = 0.05
"""Share of the frames of a clip that training shows twice, and of those that it passes over."""


class FrameCNN(nn.Module):
    """Convolutions over each frame with the one before and the one behind, and a vector of each.

    A clip's grey values are brought to mean 0 and deviation 1 first. In training a clip is moved by up to `shift`
    pixels, some of its frames come twice or not at all, and with `mirror` it is turned round half of the time.
    Pooling stands before normalisation, which has a quarter of the places then.

    Shapes: frames [T, B, height, width], 0 to 255; lengths [B]; features [T, B, O], zero past a row's end.
    """

    def __init__(
        self, height: int, width: int, output_size: int, dropout: float, shift: int = 2, mirror: bool = True
    ) -> None:
        super().__init__()
        self.shift, self.mirror = shift, mirror
        layers: list[nn.Module] = []
        for before, after, size, stride in ((3, 32, 5, 2), (32, 64, 3, 1), (64, 96, 3, 1)):
            layers += [nn.Conv2d(before, after, size, stride, size // 2, bias=False)]
            layers += [nn.MaxPool2d(2)] if min(height, width) >= 16 else []
            layers += [nn.BatchNorm2d(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        with torch.no_grad():
            places = self.layers.eval()(torch.zeros(1, 3, height, width)).numel()
        self.layers.train()
        self.output = nn.Linear(places, output_size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """The features."""
        there = torch.arange(len(frames), device=frames.device)[:, None] < lengths.to(frames.device)  # [T, B]
        x = _normal(frames.float(), there[..., None, None])
        if self.training:
            x = self._moved(_strayed(x, lengths))
        t, b = there.nonzero(as_tuple=True)  # the N frames that there are
        last = lengths.to(x.device)[b] - 1
        near = torch.stack([x[(t - 1).clamp_min(0), b], x[t, b], x[(t + 1).minimum(last), b]], 1)  # [N, 3, h, w]
        near = near.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=_coarse(near)):
            seen = self.layers(near)
        features = self.output(self.dropout(seen.float().flatten(1))).relu()
        spread: Tensor = features.new_zeros(*there.shape, features.shape[-1]).masked_scatter(there[..., None], features)
        return spread

    def _moved(self, x: Tensor) -> Tensor:
        """Each clip as it might have been filmed as well."""
        n, (height, width) = self.shift, x.shape[2:]
        wide = pad(x, (n, n, n, n))
        down, right = torch.randint(2 * n + 1, (2, x.shape[1])).tolist()
        turned = (torch.rand(x.shape[1]) < self.mirror / 2).tolist()
        clips = [wide[:, b, down[b] : down[b] + height, right[b] : right[b] + width] for b in range(x.shape[1])]
        return torch.stack([clip.flip(-1) if turn else clip for clip, turn in zip(clips, turned, strict=True)], 1)


class FrameFeatures(nn.Module):
    """Features of frames that an image encoder gave, brought to one scale, and a vector of each.

    As in `PlacesEncoder`, ReLU(W n(√x)) with the sign kept: behind a ReLU most are zero, and a few in the hundreds.

    Shapes: features [T, B, D]; lengths [B]; to [T, B, O], zero past a row's end.
    """

    def __init__(self, size: int, output_size: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.dropout, self.output = nn.LayerNorm(size), nn.Dropout(dropout), nn.Linear(size, output_size)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """The vectors."""
        x = features.float()
        told = self.output(self.dropout(self.norm(x.sign() * x.abs().sqrt()))).relu()
        there = torch.arange(len(features), device=features.device)[:, None] < lengths.to(features.device)
        spread: Tensor = told * there[..., None]
        return spread


def _normal(x: Tensor, there: Tensor) -> Tensor:
    """Each clip with mean 0 and deviation 1, zero past its end."""
    count = there.sum(0, keepdim=True) * x[0, 0].numel()
    mean = (x * there).sum((0, 2, 3), keepdim=True) / count
    x = (x - mean) * there
    return x / (x.square().sum((0, 2, 3), keepdim=True) / count + 1).sqrt()


def _strayed(x: Tensor, lengths: Tensor) -> Tensor:
    """Each clip with frames that stand still or are passed over; as many as before."""
    T, B = x.shape[:2]
    chance = torch.rand(T, B, device=x.device)
    steps = 1 + (chance < STRAY).long() - (chance > 1 - STRAY).long()
    places = (steps.cumsum(0) - 1).clamp_min(0).minimum(lengths.to(x.device) - 1)
    return x[places, torch.arange(B, device=x.device)]


def _coarse(x: Tensor) -> bool:
    """Whether convolutions may multiply in bfloat16: then all between them is of that type too, and half as much."""
    backend: Any = torch.backends.mkldnn
    return x.device.type == "cpu" and bool(backend.conv.fp32_precision == "bf16")
