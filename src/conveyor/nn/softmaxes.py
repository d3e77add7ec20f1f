"""Output layers over a vocabulary, all of one shape: hidden [..., H] to log-probabilities, or to the loss of targets.

`layer(hidden)` is [..., V], of which a softmax makes the probabilities; `layer.nats(hidden, targets)` is [...], -log of
the probability of each target, 0 where the target is `IGNORE`. Training needs only the latter, and takes less time and
memory for it than by way of the former.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear, log_softmax

from conveyor.errors import ConveyorError
from conveyor.nn.precision import precision

IGNORE = -100
"""The target of a place that does not count; the same number as torch's losses have."""


class Softmax(nn.Linear):
    """p = softmax(W h + b): one large matrix product."""

    def nats(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """-log p of each target."""
        return linear_nats(hidden, self.weight, self.bias, targets)


class MixtureOfSoftmaxes(nn.Linear):
    """p = Σ_k π_k softmax(W tanh(U_k h) + b), π = softmax(V h): Yang et al. 2018 (arXiv 1711.03953), (2).

    One softmax over d numbers can say log-probabilities of rank d at most; a mixture has no such bound. It costs as
    many matrix products over the vocabulary as it has parts.
    """

    def __init__(self, hidden_size: int, features: int, vocabulary: int, parts: int) -> None:
        super().__init__(features, vocabulary)
        self.latent = nn.Linear(hidden_size, parts * features)
        self.prior = nn.Linear(hidden_size, parts, bias=False)

    def _parts(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The features of each part [..., K, E], and the log of its share [..., K]."""
        features = self.latent(hidden).tanh().unflatten(-1, (-1, self.in_features))
        return features, log_softmax(self.prior(hidden).float(), -1)

    def forward(self, hidden: Tensor) -> Tensor:
        """Log-probabilities."""
        features, shares = self._parts(hidden)
        logits = linear(features, self.weight, self.bias)
        return (log_softmax(logits.float(), -1) + shares.unsqueeze(-1)).logsumexp(-2)

    def nats(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """-log p of each target."""
        features, shares = self._parts(hidden)
        each = linear_nats(features, self.weight, self.bias, targets.unsqueeze(-1).expand(shares.shape))
        return (-(shares - each).logsumexp(-1)).masked_fill(targets == IGNORE, 0)


class AdaptiveSoftmax(nn.Module):
    """Frequent words in one short softmax, rarer ones in clusters that are asked only where they are the target.

    Grave et al. 2017 (arXiv 1609.04309), as `torch.nn.AdaptiveLogSoftmaxWithLoss`. Words are numbered from the most
    frequent on; `cutoffs` are the numbers at which a cluster begins, with a quarter of the features of the one before.
    """

    def __init__(self, hidden_size: int, vocabulary: int, cutoffs: Sequence[int]) -> None:
        super().__init__()
        self.clusters = nn.AdaptiveLogSoftmaxWithLoss(hidden_size, vocabulary, list(cutoffs), head_bias=True)

    def forward(self, hidden: Tensor) -> Tensor:
        """Log-probabilities."""
        logs: Tensor = self.clusters.log_prob(hidden.flatten(0, -2))
        return logs.view(*hidden.shape[:-1], -1)

    def nats(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """-log p of each target."""
        there = targets != IGNORE
        with torch.autocast(hidden.device.type, enabled=False):  # torch's layer mixes dtypes under it
            found: Tensor = self.clusters(hidden[there].float(), targets[there]).output
        return found.new_zeros(targets.shape).masked_scatter(there, -found)


def output_layer(
    hidden_size: int, features: int, vocabulary: int, parts: int = 1, cutoffs: Sequence[int] = ()
) -> Softmax | MixtureOfSoftmaxes | AdaptiveSoftmax:
    """An adaptive softmax if there are cutoffs, a mixture of more parts than one, or the plain softmax."""
    if cutoffs and cutoffs[-1] >= vocabulary:
        raise ConveyorError(
            f"[network] --cutoffs: expected numbers below {vocabulary:,}, the words there are, got {cutoffs[-1]:,}; "
            "lower it, or give more text"
        )
    if cutoffs:
        return AdaptiveSoftmax(hidden_size, vocabulary, cutoffs)
    if parts > 1:
        return MixtureOfSoftmaxes(hidden_size, features, vocabulary, parts)
    return Softmax(hidden_size, vocabulary)


def linear_nats(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """-log softmax(W h + b) at each target [...], 0 where that is `IGNORE`; weight [V, H], hidden [..., H].

    Equal to `cross_entropy(linear(hidden, weight, bias), targets, reduction="none")`, with fewer passes over the
    logits, which are much larger than a cache.
    """
    there = targets.flatten() != IGNORE
    rows = hidden.flatten(0, -2)
    nats: Tensor = _LinearNats.apply(rows, weight, bias, targets.flatten() * there, precision(weight))
    return nats.masked_fill(~there, 0).view(targets.shape)


class _LinearNats(torch.autograd.Function):
    """The probabilities are written over the logits, p - [target] over these: it is the derivative by the logits.

    With m the largest logit, -log p[target] is m - logit[target] - log p[m]; p[m] is never zero, as p[target] may be.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
        h, w, at = hidden.to(dtype), weight.to(dtype), targets.unsqueeze(1)
        logits = torch.addmm(bias.to(dtype), h, w.t())
        exact = torch.promote_types(dtype, torch.float32)
        largest, there = logits.amax(1).to(exact), logits.gather(1, at).squeeze(1).to(exact)
        p = torch.softmax(logits, 1, out=logits)
        nats = largest - there - p.amax(1).to(exact).log()
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(h, w, p.scatter_add_(1, at, -torch.ones_like(at, dtype=dtype)))
            ctx.kinds = hidden.dtype, weight.dtype
        return nats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        h, w, slope = ctx.saved_tensors
        g = grad.unsqueeze(1).to(h.dtype)  # scales rows of the slope; rows of h and of the result are shorter
        of_hidden, of_weight = ctx.kinds
        by_weight, by_bias = (slope.t() @ (g * h)).to(of_weight), (slope.t() @ g).squeeze(1).to(of_weight)
        return ((slope @ w) * g).to(of_hidden), by_weight, by_bias, None, None
