"""Mixture densities: what may come next, as a sum of Gaussians (C. Bishop 1994), computed in logarithms."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

LOG_2PI = math.log(2 * math.pi)
LEAST_LOG_DEVIATION = -7.0
"""Narrower than this no Gaussian gets: a single point could have any density."""


class DiagonalMixture(nn.Module):
    """A mixture of Gaussians with diagonal covariances: p(y) = sum_k pi_k prod_d N(y_d; mu_kd, sigma_kd).

    Args:
        input_size: features it is made of.
        size: D, of y.
        components: K.

    Shapes: features [..., I], y [..., D]; `nats` gives -log p(y) [...], `sample` y [..., D].
    """

    def __init__(self, input_size: int, size: int, components: int) -> None:
        super().__init__()
        self.size, self.components = size, components
        self.output = nn.Linear(input_size, components * (1 + 2 * size))

    def _parts(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        K, D = self.components, self.size
        weights, means, logs = self.output(features).split([K, K * D, K * D], -1)
        shape = (*features.shape[:-1], K, D)
        return weights.log_softmax(-1), means.view(shape), logs.clamp_min(LEAST_LOG_DEVIATION).view(shape)

    def nats(self, features: Tensor, y: Tensor) -> Tensor:
        """-log p(y)."""
        weights, means, logs = self._parts(features)
        far = (y.unsqueeze(-2) - means) * (-logs).exp()
        each = -0.5 * (far.square() + LOG_2PI).sum(-1) - logs.sum(-1)
        return -(weights + each).logsumexp(-1)

    def sample(self, features: Tensor, bias: float = 0.0) -> Tensor:
        """A draw from it; with a bias from its likelier parts (A. Graves 2013, (61) and (62))."""
        weights, means, logs = self._parts(features)
        which = torch.distributions.Categorical(logits=weights * (1 + bias)).sample()[..., None, None]
        which = which.expand(*which.shape[:-1], self.size)
        mean, log = (part.gather(-2, which).squeeze(-2) for part in (means, logs))
        drawn: Tensor = mean + (log - bias).exp() * torch.randn_like(mean)
        return drawn


class Pen(NamedTuple):
    """A distribution over the next point of a pen."""

    weights: Tensor
    """log pi [..., M]"""
    means: Tensor
    """[..., M, 2]"""
    logs: Tensor
    """log sigma [..., M, 2]"""
    turn: Tensor
    """atanh of the correlation rho [..., M]"""
    end: Tensor
    """Logit of the pen being lifted behind the point [...]."""


class PenMixture(nn.Module):
    """Where the pen goes, and whether it is lifted then: a mixture of bivariate Gaussians, and a Bernoulli variable.

        p(x, y, e) = sum_m pi_m N((x, y); mu_m, sigma_m, rho_m) · Bernoulli(e)      A. Graves 2013, (24) to (26)

    Args:
        input_size: features it is made of.
        components: M.

    Shapes: features [..., I], points [..., 3]: the offset (x, y), and 1 where the pen is lifted behind it.
    """

    def __init__(self, input_size: int, components: int) -> None:
        super().__init__()
        self.components = components
        self.output = nn.Linear(input_size, 6 * components + 1)

    def forward(self, features: Tensor) -> Pen:
        """The distribution."""
        M = self.components
        weights, means, logs, turn, end = self.output(features).split([M, 2 * M, 2 * M, M, 1], -1)
        shape = (*features.shape[:-1], M, 2)
        logs = logs.clamp_min(LEAST_LOG_DEVIATION)
        return Pen(weights.log_softmax(-1), means.view(shape), logs.view(shape), turn, end.squeeze(-1))

    def nats(self, features: Tensor, points: Tensor) -> Tensor:
        """-log p of each point [...].

        With rho = tanh(r): 1 - rho^2 = cosh(r)^-2, so that -log sqrt(1 - rho^2) = log cosh(r), which never overflows.
        """
        pen = self(features)
        far = (points[..., None, :2] - pen.means) * (-pen.logs).exp()
        x, y = far.unbind(-1)
        log_cosh = pen.turn.abs() + softplus(-2 * pen.turn.abs()) - math.log(2)
        rho = pen.turn.tanh()
        z = x.square() + y.square() - 2 * rho * x * y
        each = -LOG_2PI - pen.logs.sum(-1) + log_cosh - 0.5 * z * (2 * log_cosh).exp()
        of_end = binary_cross_entropy_with_logits(pen.end, points[..., 2], reduction="none")
        nats: Tensor = of_end - (pen.weights + each).logsumexp(-1)
        return nats

    def sample(self, features: Tensor, bias: float = 0.0, least: float = 0.0) -> Tensor:
        """A draw [..., 3]; with a bias from its likelier parts, whose deviations are `least` at least."""
        pen = self(features)
        which = torch.distributions.Categorical(logits=pen.weights * (1 + bias)).sample()[..., None]
        pair = which[..., None].expand(*which.shape, 2)
        mean, log = (part.gather(-2, pair).squeeze(-2) for part in (pen.means, pen.logs))
        rho = pen.turn.gather(-1, which).squeeze(-1).tanh()
        a, b = torch.randn_like(mean).unbind(-1)
        both = torch.stack([a, rho * a + (1 - rho.square()).clamp_min(0).sqrt() * b], -1)
        place = mean + (log - bias).exp().clamp_min(least) * both
        return torch.cat([place, torch.bernoulli(pen.end.sigmoid())[..., None]], -1)
