"""An encoder: what an LSTM in both directions makes of tokens or features."""

from __future__ import annotations

from torch import Tensor, nn

from conveyor.nn.lstm import LSTM


class Encoder(nn.Module):
    """Embedding or features, then a stack of LSTMs in both directions, whose outputs are a memory.

    Args:
        input_size: I, of a step's features or of a token's embedding.
        hidden_size: H, units of a layer and direction.
        layers: one upon the other.
        dropout: share dropped of what is read, between layers, and of the outputs.
        vocabulary: how many tokens there are; None if features come in.
        variant: which LSTM.

    Shapes: inputs [S, B] tokens or [S, B, I] features, lengths [B]; to values [S, B, 2H], and a summary [B, 2H]: the
    last output of each direction.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        layers: int = 1,
        dropout: float = 0.0,
        vocabulary: int | None = None,
        variant: str = "lstm",
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, input_size) if vocabulary else None
        between = dropout if layers > 1 else 0.0
        self.lstm = LSTM(input_size, hidden_size, layers, dropout=between, bidirectional=True, variant=variant)
        self.dropout = nn.Dropout(dropout)
        self.value_size = 2 * hidden_size

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Values and summary."""
        x = inputs if self.embedding is None else self.embedding(inputs)
        values, (h_n, _) = self.lstm(self.dropout(x), lengths=lengths)
        return self.dropout(values), self.dropout(h_n[-2:].transpose(0, 1).flatten(1))
