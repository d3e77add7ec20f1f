"""Dropout that leaves out the same numbers at every step of a sequence, and dropout of whole words."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from conveyor.nn.lstm import LSTM


def variational_dropout(x: Tensor, p: float, training: bool = True) -> Tensor:
    """x [T, B, I] ⊙ m, with one m [B, I] for all steps: Gal & Ghahramani 2016 (arXiv 1512.05287), section 4."""
    return x * dropout(torch.ones_like(x[:1]), p) if training and p else x


class VariationalDropout(nn.Dropout):
    """`variational_dropout` as a module."""

    def forward(self, x: Tensor) -> Tensor:
        return variational_dropout(x, self.p, self.training)


class VariationalLSTM(LSTM):
    """An LSTM whose `dropout` leaves out the same numbers of a layer's output at every step of a call."""

    def _between(self, x: Tensor) -> Tensor:
        return variational_dropout(x, self.dropout, self.training)


def word_dropout(embedding: nn.Embedding, tokens: Tensor, p: float, training: bool = True) -> Tensor:
    """The embedding of tokens [...] as [..., E]; a word that is left out is so wherever it stands.

    As if rows of the embedding were zero: Gal & Ghahramani 2016, section 4.2; Merity et al. 2018, section 4.3.
    """
    embedded: Tensor = embedding(tokens)
    if not (training and p):
        return embedded
    words = dropout(embedded.new_ones(embedding.num_embeddings), p)
    return embedded * words[tokens].unsqueeze(-1)
