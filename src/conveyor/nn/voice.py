"""Characters spread over the frames that they last, and what reads those."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from conveyor.nn.lstm import LSTM

NEAR = 3
"""Characters before and behind that a frame sees."""
PLACES = 3
"""Numbers that say where in its character a frame is."""


def lasting(durations: Tensor) -> Tensor:
    """Which character each frame is of [T, B], of durations [U, B]; past the end of a row the last one."""
    ends = durations.cumsum(0)
    frames = torch.arange(int(ends[-1].max()), device=durations.device)
    return (
        torch.searchsorted(ends.T.contiguous(), frames.expand(len(ends.T), -1).contiguous(), right=True)
        .clamp_max(len(ends) - 1)
        .T
    )


class FrameReader(nn.Module):
    """What is told of each frame: of its character, those near it, and how far into the character the frame is.

    Args:
        embedding_size: of a character.
        hidden_size: H, units of a direction of both LSTM layers.
        output_size: numbers told of a frame.
        dropout: share dropped between layers and of the outputs.
        recurrent: LSTMs in both directions; if not, three layers that see each frame alone, with as many weights.
        variant: which LSTM.

    Shapes: embedded [U, B, E], durations [U, B], lengths [B] of the frames; to [T, B, O].
    """

    def __init__(
        self, embedding_size: int, hidden_size: int, output_size: int, dropout: float, recurrent: bool, variant: str
    ) -> None:
        super().__init__()
        size, H = (2 * NEAR + 1) * embedding_size + PLACES, hidden_size
        self.dropout = nn.Dropout(dropout)
        self.lstm = LSTM(size, H, 2, dropout=dropout, bidirectional=True, variant=variant) if recurrent else None
        weights = 2 * 4 * H * (size + H + 2) + 2 * 4 * H * (3 * H + 2) + 2 * H * output_size
        wide = _width(weights, size, output_size)
        layers = [part for a in (size, wide, wide) for part in (nn.Linear(a, wide), nn.ReLU(), nn.Dropout(dropout))]
        self.layers = nn.Sequential() if recurrent else nn.Sequential(*layers)
        self.output = nn.Linear(2 * H if recurrent else wide, output_size)

    def forward(self, embedded: Tensor, durations: Tensor, lengths: Tensor) -> Tensor:
        """What is told of each frame."""
        x = frames_of(embedded, durations)
        read = self.lstm(x, lengths=lengths)[0] if self.lstm else self.layers(x)
        told: Tensor = self.output(self.dropout(read) if self.lstm else read)
        return told


def frames_of(embedded: Tensor, durations: Tensor) -> Tensor:
    """[T, B, (2 NEAR + 1) E + PLACES]: the characters about each frame, and its place in its own."""
    U, B, E = embedded.shape
    which = lasting(durations)
    T = len(which)
    silence = embedded.new_zeros(NEAR, B, E)
    padded = torch.cat([silence, embedded, silence])
    near = torch.stack([padded[n : n + U] for n in range(2 * NEAR + 1)], 2).flatten(2)  # [U, B, (2 NEAR + 1) E]
    own = near.gather(0, which[..., None].expand(-1, -1, near.shape[-1]))
    long = durations.gather(0, which).clamp_min(1).float()
    first = (durations.cumsum(0) - durations).gather(0, which)
    into = (torch.arange(T, device=which.device)[:, None] - first + 0.5) / long
    return torch.cat([own, torch.stack([into, 1 - into, long.log()], -1)], -1)


def _width(weights: int, size: int, output_size: int) -> int:
    """Of three layers that have so many weights together: w size + 2 w^2 + w output + biases."""
    linear = size + output_size + 3
    return max(1, round(float((linear**2 + 8 * weights) ** 0.5 - linear) / 4))
