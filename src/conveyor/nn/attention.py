"""Attention: which parts of a memory matter at a step, and what they come to."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

Kind = Literal["additive", "multiplicative"]


class Memory(NamedTuple):
    """What is looked at: S places of each of B rows."""

    values: Tensor
    """What is read there [S, B, V]."""
    keys: Tensor
    """What it is found by [S, B, A]."""
    mask: Tensor
    """Where there is something [S, B], bool."""
    tokens: Tensor | None = None
    """Tokens that may be copied from there [S, B]."""


class Attended(NamedTuple):
    """What was seen."""

    context: Tensor
    """[T, B, V]"""
    weights: Tensor
    """[T, B, S]: shares of a step's attention. A sentinel takes what they lack of 1; a row without places has zeros."""
    covered: Tensor | None
    """Σ of the weights of all steps so far [1, B, S], with coverage."""


class Attention(nn.Module):
    """Weights over the places of a memory, and the mean of its values under them.

        e_ts = vᵀ tanh(W q_t + U m_s + u c_ts)    additive: Bahdanau, Cho & Bengio 2015, appendix A.1.2
        e_ts = q_tᵀ U m_s + u c_ts                multiplicative: Luong, Pham & Manning 2015, (8), "general"
        α_t  = softmax_s(e_ts)
        y_t  = Σ_s α_ts m_s

    of queries q_t and values m_s. With coverage c_ts = Σ_{t' < t} α_t's tells what was seen before (Tu et al. 2016;
    See, Liu & Manning 2017, (11)); without it all steps are taken at once.

    Args:
        query_size, value_size: Q of q_t, V of m_s.
        attention_size: A of v in additive attention; multiplicative attention has A = Q.
        kind: which of the two.
        coverage: whether there is u.

    Shapes: query [T, B, Q]; `own` [T, B, V] is one more value that each step may see instead, a sentinel.

    >>> import torch
    >>> attention = Attention(4, 6, 5)
    >>> memory = attention.remember(torch.randn(7, 2, 6), torch.tensor([7, 3]))
    >>> seen = attention(torch.randn(3, 2, 4), memory)
    >>> seen.context.shape, seen.weights[:, 1, 3:].any().item()
    (torch.Size([3, 2, 6]), False)
    """

    def __init__(
        self, query_size: int, value_size: int, attention_size: int, kind: Kind = "additive", coverage: bool = False
    ) -> None:
        super().__init__()
        A = attention_size if kind == "additive" else query_size
        self.query = nn.Linear(query_size, A) if kind == "additive" else nn.Identity()
        self.key = nn.Linear(value_size, A, bias=False)
        self.score = nn.Linear(A, 1, bias=False) if kind == "additive" else None
        self.coverage = nn.Parameter(torch.zeros(A if self.score else 1)) if coverage else None

    def remember(self, values: Tensor, lengths: Tensor | None = None, tokens: Tensor | None = None) -> Memory:
        """The memory of values [S, B, V], of each row its first lengths [B]; all if not given."""
        S, B = values.shape[:2]
        lengths = torch.full((B,), S) if lengths is None else torch.as_tensor(lengths)
        mask = torch.arange(S, device=values.device)[:, None] < lengths.to(values.device)
        return Memory(values, self.key(values), mask, tokens)

    def forward(
        self, query: Tensor, memory: Memory, covered: Tensor | None = None, own: Tensor | None = None
    ) -> Attended:
        """What each query sees; `covered` is that of the steps before."""
        q = self.query(query)
        if self.coverage is None:
            return Attended(*self._see(q, memory, None, own), None)
        B, S = q.shape[1], len(memory.mask)
        covered = q.new_zeros(1, B, S) if covered is None else covered
        contexts, shares = [], []
        for t in range(len(q)):
            context, weights = self._see(q[t : t + 1], memory, covered, None if own is None else own[t : t + 1])
            covered = covered + weights
            contexts.append(context)
            shares.append(weights)
        return Attended(torch.cat(contexts), torch.cat(shares), covered)

    def _see(self, q: Tensor, memory: Memory, covered: Tensor | None, own: Tensor | None) -> tuple[Tensor, Tensor]:
        """Context [T, B, V] and weights [T, B, S] of steps that know the same coverage."""
        mask = memory.mask.T
        e = self._scores(q, memory.keys, covered).masked_fill(~mask, torch.finfo(q.dtype).min)
        if own is not None:
            key = self.key(own)
            mine = self.score((q + key).tanh()) if self.score else (q * key).sum(-1, keepdim=True)
            e = torch.cat([e, mine], -1)
        α = e.softmax(-1)
        weights = α[..., : len(memory.mask)] * mask
        context = torch.bmm(weights.transpose(0, 1), memory.values.transpose(0, 1)).transpose(0, 1)
        return (context if own is None else context + α[..., -1:] * own), weights

    def _scores(self, q: Tensor, keys: Tensor, covered: Tensor | None) -> Tensor:
        """e [T, B, S]."""
        if self.score is None:
            e = torch.bmm(q.transpose(0, 1), keys.permute(1, 2, 0)).transpose(0, 1)
            return e if self.coverage is None or covered is None else e + self.coverage * covered
        inner = q.unsqueeze(2) + keys.transpose(0, 1)
        if self.coverage is not None and covered is not None:
            inner = inner + covered.unsqueeze(-1) * self.coverage
        scores: Tensor = self.score(inner.tanh()).squeeze(-1)
        return scores


def doubly_stochastic(weights: Tensor, mask: Tensor) -> Tensor:
    """Σ_s (1 - Σ_t α_ts)², a row's mean: each place to be looked at about once. Xu et al. 2015, (14).

    weights [T, B, S] (zero where a row has ended), mask [S, B].
    """
    missing = (1 - weights.sum(0)) * mask.T
    return missing.square().sum(-1).mean()


def coverage_loss(weights: Tensor) -> Tensor:
    """Σ_s min(α_ts, Σ_{t' < t} α_t's) of every step [T, B]: what was looked at again. See et al. 2017, (12)."""
    before = weights.cumsum(0) - weights
    return torch.minimum(weights, before).sum(-1)
