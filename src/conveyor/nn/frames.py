"""Frames of a video as features: a CNN that sees each frame between its neighbours."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad


class FrameCNN(nn.Module):
    """Convolutions over each frame with the one before and the one behind, and a vector of each.

    A clip's grey values are brought to mean 0 and deviation 1 first. In training a clip is turned round left to right
    half of the time, and moved by up to `shift` pixels.

    Shapes: frames [T, B, height, width], 0 to 255; lengths [B]; features [T, B, O].
    """

    def __init__(self, height: int, width: int, output_size: int, dropout: float, shift: int = 2) -> None:
        super().__init__()
        self.shift = shift
        layers: list[nn.Module] = []
        for before, after, size, stride in ((3, 32, 5, 2), (32, 64, 3, 1), (64, 96, 3, 1)):
            layers += [nn.Conv2d(before, after, size, stride, size // 2), nn.BatchNorm2d(after), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if min(height, width) >= 16 else []
        self.layers = nn.Sequential(*layers)
        with torch.no_grad():
            places = self.layers.eval()(torch.zeros(1, 3, height, width)).numel()
        self.layers.train()
        self.output = nn.Linear(places, output_size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """The features; past a row's end they mean nothing."""
        x = frames.float()
        there = (torch.arange(len(x), device=x.device)[:, None] < lengths.to(x.device))[..., None, None]
        count = there.sum(0, keepdim=True) * x[0, 0].numel()
        mean = (x * there).sum((0, 2, 3), keepdim=True) / count
        x = (x - mean) * there
        x = x / (x.square().sum((0, 2, 3), keepdim=True) / count + 1).sqrt()
        if self.training:
            x = self._moved(x)
        near = torch.stack([torch.cat([x[:1], x[:-1]]), x, torch.cat([x[1:], x[-1:]])], 2)  # [T, B, 3, h, w]
        features = self.output(self.dropout(self.layers(near.flatten(0, 1)).flatten(1))).relu()
        return torch.unflatten(features, 0, near.shape[:2])

    def _moved(self, x: Tensor) -> Tensor:
        """Each clip as it might have been filmed as well."""
        n, (height, width) = self.shift, x.shape[2:]
        wide = pad(x, (n, n, n, n))
        down, right = torch.randint(2 * n + 1, (2, x.shape[1])).tolist()
        turned = (torch.rand(x.shape[1]) < 0.5).tolist()
        clips = [wide[:, b, down[b] : down[b] + height, right[b] : right[b] + width] for b in range(x.shape[1])]
        return torch.stack([clip.flip(-1) if turn else clip for clip, turn in zip(clips, turned, strict=True)], 1)
