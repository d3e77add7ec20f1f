"""Reading with several looks: what an LSTM finds in a story, each look guided by those before."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from conveyor.nn.attention import Attention
from conveyor.nn.cells import LSTMCell
from conveyor.nn.lstm import LSTM


class Found(NamedTuple):
    """What a story says about a question."""

    answer: Tensor
    """[B, 3H + E]: the last state of the reader, and the question."""
    values: Tensor
    """Of the sentences [N, B, 4H + E]."""
    words: Tensor
    """Of each sentence's words [W, U, 2H]."""
    hops: Tensor
    """Weights of each look [K, B, N]."""


class StoryReader(nn.Module):
    """Sentences and question by an LSTM over words, the story by one over sentences, then K looks by an LSTM.

        s_n = [BiLSTM(words of sentence n), its last states; Σ of the words' embeddings], q the same of the question
        m_n = [s_n, BiLSTM(s_1 … s_N)_n]
        y_k = attention_k(h_{k-1}; m),   h_k, c_k = LSTM([y_k, q], h_{k-1}, c_{k-1}),   h_0 = tanh(W q)

    the hops of Sukhbaatar et al. 2015 (arXiv 1503.08895) with an LSTM as their controller. Sentences that occur more
    than once are read once.

    Args:
        vocabulary, embedding_size, hidden_size: of words; H units a direction, and of the controller.
        hops: K.
        dropout: share dropped of embeddings and sentences.
        variant: which LSTM.

    Shapes: sentences [W, U] tokens with lengths [U]; story [N, B] and question [B] numbers of sentences, counts [B].
    """

    def __init__(
        self, vocabulary: int, embedding_size: int, hidden_size: int, hops: int, dropout: float, variant: str = "lstm"
    ) -> None:
        super().__init__()
        H, S = hidden_size, 2 * hidden_size + embedding_size
        self.value_size, self.answer_size = S + 2 * H, S + H
        self.embedding = nn.Embedding(vocabulary, embedding_size)
        self.words = LSTM(embedding_size, H, bidirectional=True, variant=variant)
        self.story = LSTM(S, H, bidirectional=True, variant=variant)
        self.bridge = nn.Linear(S, H)
        self.looks = nn.ModuleList(Attention(H, self.value_size, H, "multiplicative") for _ in range(hops))
        self.controller = LSTMCell(self.value_size + S, H)
        self.dropout = nn.Dropout(dropout)

    def forward(self, sentences: Tensor, lengths: Tensor, story: Tensor, counts: Tensor, question: Tensor) -> Found:
        """What is found."""
        embedded = self.embedding(sentences)
        words, (last, _) = self.words(self.dropout(embedded), lengths=lengths)
        there = (torch.arange(len(sentences), device=lengths.device)[:, None] < lengths).unsqueeze(-1)
        s = self.dropout(torch.cat([last.transpose(0, 1).flatten(1), (embedded * there).sum(0)], -1))
        told, q = s[story], s[question]
        values = torch.cat([told, self.dropout(self.story(told, lengths=counts)[0])], -1)
        h = self.bridge(q).tanh()
        c, hops = torch.zeros_like(h), []
        for look in self.looks:
            assert isinstance(look, Attention)
            seen = look(h[None], look.remember(values, counts))
            h, c = self.controller(torch.cat([seen.context[0], q], -1), (h, c))
            hops.append(seen.weights[0])
        return Found(torch.cat([h, q], -1), values, words, torch.stack(hops))
