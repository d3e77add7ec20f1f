"""What becomes of a sequence's outputs where one answer is wanted for all of it."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn


class Pooling(nn.Module):
    """The outputs h_1 … h_T of each row, its own steps alone, to one row of D features.

        mean:       Σ_t h_t / T
        max:        max_t h_t, feature by feature
        last:       of each direction the output where it ended
        attention:  Σ_t a_t h_t, a = softmax_t(v · tanh(W h_t + b))

    Attention is that of Yang et al., "Hierarchical Attention Networks for Document Classification" (2016), (5) to (7).

    Args:
        kind: which of these.
        features: D.

    Shapes of a call:
        hidden [T, B, D], zero behind a row's end, as `conveyor.LSTM` gives it with lengths;
        last [L*directions, B, D / directions], the states of the same call;
        lengths [B], each from 1 to T;
        the result [B, D].

    >>> import torch
    >>> from conveyor import LSTM
    >>> lengths = torch.tensor([5, 2])
    >>> hidden, (last, _) = LSTM(3, 4, bidirectional=True)(torch.randn(5, 2, 3), lengths=lengths)
    >>> Pooling("mean", 8)(hidden, last, lengths).shape
    torch.Size([2, 8])
    """

    def __init__(self, kind: Literal["mean", "max", "last", "attention"], features: int) -> None:
        super().__init__()
        self.kind = kind
        if kind == "attention":
            self.hidden = nn.Linear(features, features)
            self.score = nn.Linear(features, 1, bias=False)

    def forward(self, hidden: Tensor, last: Tensor, lengths: Tensor) -> Tensor:
        """One row of features a sequence; see the class for shapes."""
        if self.kind == "mean":
            return hidden.sum(0) / lengths.unsqueeze(1)
        if self.kind == "last":
            directions = hidden.shape[2] // last.shape[2]
            return torch.cat([*last[-directions:]], 1)
        behind = (torch.arange(len(hidden), device=lengths.device)[:, None] >= lengths).unsqueeze(2)  # [T, B, 1]
        if self.kind == "max":
            return hidden.masked_fill(behind, -math.inf).amax(0)
        scores: Tensor = self.score(torch.tanh(self.hidden(hidden)))
        return (scores.masked_fill(behind, -math.inf).softmax(0) * hidden).sum(0)
