"""A memory of what was just read, for a language model that is no longer trained.

E. Grave, A. Joulin, N. Usunier 2017 (Improving Neural Language Models with a Continuous Cache, arXiv 1612.04426):

    p_cache(w) ∝ Σ_i [w = x_{i+1}] exp(θ h_t · h_i),  i the last N steps before t     (3)
    p(w) = (1 - λ) p_model(w) + λ p_cache(w)                                          (4)

θ says how much likeness counts, λ how much the memory does. Where it is still empty, p is p_model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from conveyor.nn.softmaxes import IGNORE

FLATNESS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.5)
"""Values of θ to choose among."""
SHARE = (0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 0.4)
"""Values of λ to choose among."""


class NeuralCache:
    """The last `size` hidden states of every stream, and the token that followed each; for every θ [K] and λ [S]."""

    def __init__(self, size: int, theta: Sequence[float], share: Sequence[float]) -> None:
        self.size, self.theta, self.share = size, theta, torch.tensor(share).view(-1, 1, 1)
        self._hidden: Tensor | None = None  # [M, B, H]
        self._words: Tensor | None = None  # [M, B]

    def nats(self, hidden: Tensor, targets: Tensor, model: Tensor) -> Tensor:
        """-log p of targets [T, B], from -log p_model [T, B], as [K, S, T, B]; then remember hidden [T, B, H]."""
        cached, share = self._read(hidden, targets).unsqueeze(1), self.share.to(hidden.device)
        nats = -((1 - share) * model.neg().exp() + share * cached).log()
        return torch.where(cached.isnan(), model, nats).masked_fill(targets == IGNORE, 0)

    def _read(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """p_cache of targets, as [K, T, B]; nan where nothing came before."""
        if self._hidden is None or self._words is None:
            self._hidden, self._words = hidden[:0], targets[:0]
        keys, words = torch.cat([self._hidden, hidden]), torch.cat([self._words, targets])
        M, T = len(self._words), len(hidden)
        ago = torch.arange(M, M + T).unsqueeze(1) - torch.arange(M + T)  # [T, M + T]
        unseen = ((ago < 1) | (ago > self.size)).to(hidden.device)
        likeness = torch.einsum("tbh,mbh->btm", hidden, keys)
        follows = words.t().unsqueeze(1) == targets.t().unsqueeze(2)  # [B, T, M + T]
        self._hidden, self._words = keys[-self.size :], words[-self.size :]
        weights = ((theta * likeness).masked_fill(unseen, -torch.inf).softmax(-1) for theta in self.theta)
        return torch.stack([(weight * follows).sum(-1).t() for weight in weights])


@torch.no_grad()
def total(
    network: Any, windows: Iterable[tuple[Tensor, Tensor]], size: int, theta: Sequence[float], share: Sequence[float]
) -> Tensor:
    """-log p of all targets together [K, S]; windows of tokens and targets [T, B] go on from one to the next.

    `network.read` makes of tokens and a state what `network.output` reads, and the next state.
    """
    cache, state = NeuralCache(size, theta, share), None
    nats = torch.zeros(len(theta), len(share), dtype=torch.float64)
    for tokens, targets in windows:
        hidden, state = network.read(tokens, state)
        nats += cache.nats(hidden, targets, network.output.nats(hidden, targets)).double().sum((2, 3)).cpu()
    return nats


def best(
    network: Any, windows: Iterable[tuple[Tensor, Tensor]], size: int, theta: Sequence[float], share: Sequence[float]
) -> tuple[tuple[float], tuple[float]]:
    """The θ and the λ with the smallest total."""
    row, column = divmod(int(total(network, windows, size, theta, share).argmin()), len(share))
    return (theta[row],), (share[column],)
