"""A decoder: an LSTM that writes tokens and looks at a memory while it does."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from conveyor.nn.attention import Attention, Kind, Memory
from conveyor.nn.lstm import LSTM

States = tuple[Tensor, Tensor]


class DecoderState(NamedTuple):
    """What a decoder carries from step to step; rows are in dimension 1 of each tensor."""

    lower: States
    """(h, c) of the first layer, each [1, B, H]."""
    upper: States | None
    """(h, c) of the layers above it, each [L-1, B, H]."""
    fed: Tensor | None
    """The read-out of the step before [1, B, E], with input feeding."""
    covered: Tensor | None
    """What the attention has covered [1, B, S], with coverage."""


class Decoded(NamedTuple):
    """What a decoder makes of tokens."""

    logits: Tensor
    """Of the token that comes next [T, B, W]; with copying, log-probabilities."""
    weights: Tensor
    """Where it looked [T, B, S]."""
    state: DecoderState


class Decoder(nn.Module):
    """Embedding, LSTM, attention, more LSTM layers, and a read-out tied to the embedding.

        h_t = LSTM(x_t)                         first layer; with input feeding of [x_t, r_{t-1}]
        y_t = attention(h_t; memory)
        h'_t = LSTMs([h_t, y_t])                the layers above, if there are any; else h_t
        r_t = tanh(W [h'_t, y_t, x_t])
        p_t = softmax(E r_t + b)

    of x_t, the row of the embedding E of token t. Without input feeding the first layer reads a whole sequence before
    anything is looked at, and the layers above read it whole with its contexts: all of a given text is decoded in a few
    calls (Wu et al. 2016, section 3, where the first layer's output asks the attention for all layers). With it
    (Luong et al. 2015, section 3.3) the steps follow one another.

    Copying (See et al. 2017, (9)): p_t = g_t softmax(…) + (1 - g_t) Σ_s α_ts [token of place s], g_t = σ(w r_t + w_0).

    Sentinel (Lu et al. 2017, (11) to (13)): a step may look at what the first layer itself remembers, see `Sentinel`.

    Args:
        vocabulary, embedding_size, hidden_size: W, E, H.
        value_size, summary_size: V of the memory's values, and of the vector that the first states are made of.
        layers: L, at least 1.
        attention, attention_size: see `Attention`.
        input_feeding, coverage, copy, sentinel: as above.
        dropout: share dropped of embeddings, between layers, and of the read-out.
        variant: which LSTM.

    >>> import torch
    >>> decoder = Decoder(20, 8, 16, 6, 6, layers=2)
    >>> memory = decoder.remember(torch.randn(7, 2, 6), torch.tensor([7, 3]))
    >>> decoded = decoder(torch.randint(20, (5, 2)), memory, decoder.start(torch.randn(2, 6)))
    >>> decoded.logits.shape, decoded.weights.shape
    (torch.Size([5, 2, 20]), torch.Size([5, 2, 7]))
    """

    def __init__(
        self,
        vocabulary: int,
        embedding_size: int,
        hidden_size: int,
        value_size: int,
        summary_size: int,
        *,
        layers: int = 1,
        attention: Kind = "additive",
        attention_size: int | None = None,
        input_feeding: bool = False,
        coverage: bool = False,
        copy: bool = False,
        sentinel: bool = False,
        dropout: float = 0.0,
        variant: str = "lstm",
    ) -> None:
        super().__init__()
        E, H, V = embedding_size, hidden_size, value_size
        self.input_feeding = input_feeding
        self.embedding = nn.Embedding(vocabulary, E)
        nn.init.normal_(self.embedding.weight, std=E**-0.5)  # so that tied logits begin small
        self.bridge = nn.Linear(summary_size, 2 * layers * H)
        self.lower = LSTM(E * (2 if input_feeding else 1), H, variant=variant)
        self.attention = Attention(H, V, attention_size or H, attention, coverage)
        between = dropout if layers > 2 else 0.0
        self.upper = LSTM(H + V, H, layers - 1, dropout=between, variant=variant) if layers > 1 else None
        self.read_out = nn.Linear(H + V + E, E)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.copy = nn.Linear(E, 1) if copy else None
        self.sentinel = Sentinel(E, H, V) if sentinel else None
        self.dropout = nn.Dropout(dropout)

    def remember(self, values: Tensor, lengths: Tensor | None = None, tokens: Tensor | None = None) -> Memory:
        """The memory of values [S, B, V]; with copying, of tokens [S, B] of this decoder's vocabulary."""
        return self.attention.remember(values, lengths, tokens)

    def start(self, summary: Tensor) -> DecoderState:
        """The state before the first token, of a summary [B, …] of what is to be told: h = tanh(W s), c = W' s."""
        h, c = self.bridge(summary).unflatten(-1, (2, -1, self.lower.hidden_size)).permute(1, 2, 0, 3)
        h, c = h.tanh().contiguous(), c.contiguous()
        fed = summary.new_zeros(1, len(summary), self.embedding.embedding_dim) if self.input_feeding else None
        return DecoderState((h[:1], c[:1]), (h[1:], c[1:]) if self.upper else None, fed, None)

    def forward(self, tokens: Tensor, memory: Memory, state: DecoderState) -> Decoded:
        """What comes after each of tokens [T, B]."""
        x = self.dropout(self.embedding(tokens))
        reads, shares = [], []
        for piece in x.split(1) if self.input_feeding else [x]:
            read, weights, state = self._read(piece, memory, state)
            reads.append(read)
            shares.append(weights)
        weights = torch.cat(shares)
        return Decoded(self._logits(torch.cat(reads), weights, memory), weights, state)

    def _read(self, x: Tensor, memory: Memory, state: DecoderState) -> tuple[Tensor, Tensor, DecoderState]:
        """Read-out [T, B, E], weights and state after steps that need no feeding from one another."""
        fed = x if state.fed is None else torch.cat([x, state.fed], -1)
        if self.sentinel is None:
            own = None
            h, lower = self.lower(fed, state.lower)
        else:
            h, lower, gates = self.lower(fed, state.lower, return_gates=True)
            own = self.sentinel(x, torch.cat([state.lower[0], h[:-1]]), gates[0].c)
        seen = self.attention(h, memory, state.covered, own)
        upper = state.upper
        if self.upper is not None:
            h, upper = self.upper(torch.cat([self.dropout(h), seen.context], -1), upper)
        read = self.read_out(torch.cat([self.dropout(h), seen.context, x], -1)).tanh()
        fed_next = read[-1:] if self.input_feeding else None
        return read, seen.weights, DecoderState(lower, upper, fed_next, seen.covered)

    def _logits(self, read: Tensor, weights: Tensor, memory: Memory) -> Tensor:
        logits: Tensor = nn.functional.linear(self.dropout(read), self.embedding.weight, self.bias)
        if self.copy is None or memory.tokens is None:
            return logits
        g = self.copy(read).sigmoid()
        places = memory.tokens.T.expand(len(read), -1, -1)
        mixed = (g * logits.softmax(-1)).scatter_add(-1, places, (1 - g) * weights)
        log_p: Tensor = mixed.clamp_min(torch.finfo(mixed.dtype).tiny).log()
        return log_p


class Sentinel(nn.Module):
    """s_t = W_s (σ(W [x_t, h_{t-1}]) ⊙ tanh(c_t)): what an LSTM remembers, as a value beside those of a memory.

    Shapes: x [T, B, E], h_{t-1} and c_t [T, B, H], to [T, B, V].
    """

    def __init__(self, embedding_size: int, hidden_size: int, value_size: int) -> None:
        super().__init__()
        self.gate = nn.Linear(embedding_size + hidden_size, hidden_size)
        self.value = nn.Linear(hidden_size, value_size)

    def forward(self, x: Tensor, before: Tensor, c: Tensor) -> Tensor:
        """The sentinels of all steps."""
        value: Tensor = self.value(self.gate(torch.cat([x, before], -1)).sigmoid() * c.tanh())
        return value


def scheduled(tokens: Tensor, logits: Tensor, share: float) -> Tensor:
    """Tokens [T, B] with a share of all but the first replaced by draws from what `logits` [T, B, W] expected there.

    Scheduled sampling (Bengio et al. 2015) for all steps at once: the logits are those of a first pass over the given
    text, the loss that of a second pass over this (Mihaylova & Martins 2019, arXiv 1906.07651).
    """
    T, B = tokens.shape
    drawn = torch.multinomial(logits[:-1].detach().softmax(-1).flatten(0, 1), 1).view(T - 1, B)
    replaced = torch.rand(T - 1, B, device=tokens.device) < share
    return torch.cat([tokens[:1], torch.where(replaced, drawn, tokens[1:])])
