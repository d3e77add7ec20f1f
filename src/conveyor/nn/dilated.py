"""LSTMs that skip steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from conveyor.nn.lstm import LSTM


class DilatedLSTM(nn.Module):
    """Layers of LSTM, one upon the other; that with dilation d goes on at step t with the state of step t - d.

    Each layer but the first stands beside a way around it: y = x + dropout(LSTM_d(x)). The dilations are those of
    S. Chang et al., "Dilated Recurrent Neural Networks" (2017, arXiv 1710.02224), (1), the ways around those of
    A. Prakash et al., "Neural Paraphrase Generation with Stacked Residual LSTM Networks" (2016, arXiv 1610.03098).

    Args:
        input_size, hidden_size: I and H.
        dilations: d of each layer, from below.
        dropout: probability of zeroing what a layer adds.
        options: of every `conveyor.LSTM`.

    Shapes of a call: x [T, B, I] and lengths [B] to [T, B, H].

    >>> DilatedLSTM(3, 4, (1, 2))(torch.randn(5, 2, 3), torch.tensor([5, 3])).shape
    torch.Size([5, 2, 4])
    """

    def __init__(
        self, input_size: int, hidden_size: int, dilations: Sequence[int], dropout: float = 0.0, **options: Any
    ) -> None:
        super().__init__()
        self.dilations = tuple(dilations)
        sizes = [input_size] + [hidden_size] * (len(self.dilations) - 1)
        self.layers = nn.ModuleList(LSTM(size, hidden_size, **options) for size in sizes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """See the class for shapes."""
        for number, (layer, dilation) in enumerate(zip(self.layers, self.dilations, strict=True)):
            y = dilated(layer, x, lengths, dilation)
            x = x + self.dropout(y) if number else y
        return x


def dilated(layer: nn.Module, x: Tensor, lengths: Tensor, dilation: int) -> Tensor:
    """An LSTM over [T, B, I] that at step t goes on with the state of step t - d: d sequences side by side."""
    T, B, _ = x.shape
    side_by_side = pad(x, (0, 0, 0, 0, 0, -T % dilation)).reshape(-1, dilation * B, x.shape[2])
    offsets = torch.arange(dilation, device=lengths.device).unsqueeze(1)
    steps = (lengths - offsets + dilation - 1).div(dilation, rounding_mode="floor").clamp_min(0)
    y: Tensor = layer(side_by_side, lengths=steps.flatten())[0]
    return y.reshape(-1, B, y.shape[2])[:T]
