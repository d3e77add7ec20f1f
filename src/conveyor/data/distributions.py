"""What a forecast may be: one number, quantiles, or the parameters of a distribution.

A head turns P numbers of a network into a forecast, and says how far that is from what came. It speaks of `z`, a value
as the network sees it: z = (transform(y) - centre) / scale, with the centre and scale of the window before it.
`anchor` [M, h] is a first guess of z that the head's numbers [M, h, P] are added to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy import special  # type: ignore[import-untyped]
from torch import Tensor, distributions
from torch.nn.functional import softplus

SMALLEST = 1e-3
"""The narrowest spread, in units of `scale`: what one lucky guess can win is bounded so."""


class Transform(NamedTuple):
    """How values are made even before they are centred and scaled."""

    kind: str
    """log, log1p or none."""
    floor: float
    """What is lower is taken for this: a logarithm wants positive values."""

    def into(self, y: Tensor) -> Tensor:
        """Of the values."""
        if self.kind == "none":
            return y
        clamped = y.clamp_min(self.floor)
        return clamped.log() if self.kind == "log" else clamped.log1p()

    def out_of(self, x: Tensor) -> Tensor:
        """Back."""
        if self.kind == "none":
            return x
        bounded = x.clamp_max(80.0)  # e^88 is the largest float32
        return bounded.exp() if self.kind == "log" else bounded.expm1().clamp_min(0)


class Frame(NamedTuple):
    """Of M windows before a forecast: how z and y belong together."""

    centre: Tensor  # [M, 1]
    scale: Tensor  # [M, 1]
    transform: Transform

    def z_of(self, y: Tensor) -> Tensor:
        """Values [M, h] as the network sees them."""
        return (self.transform.into(y) - self.centre) / self.scale

    def y_of(self, z: Tensor) -> Tensor:
        """Back."""
        return self.transform.out_of(self.centre + self.scale * z)


class Quantiles(NamedTuple):
    """The median, and how much farther each next quantile lies from it on either side; their pinball losses.

    The levels are as many below ½ as above it. What the others want does not move the median (Koenker & Bassett 1978
    for the loss), nor what the network below learns, so that the median is that of a network for it alone.
    """

    levels: tuple[float, ...]

    @property
    def numbers(self) -> int:
        """P."""
        return len(self.levels)

    def known(self, raw: Tensor, anchor: Tensor) -> Tensor:
        """z of each level [M, h, Q], in order."""
        median, count = (anchor + raw[..., 0]).unsqueeze(-1), len(self.levels) // 2
        below, above = softplus(raw[..., 1:]).split(count, -1) if count else (raw[..., :0], raw[..., :0])
        fixed = median.detach()
        return torch.cat([fixed - below.cumsum(-1).flip(-1), median, fixed + above.cumsum(-1)], -1)

    def loss(self, raw: Tensor, anchor: Tensor, y: Tensor, frame: Frame) -> Tensor:
        """The median's, and the mean of the others', in units of the transformed values [M, h].

        2 ρ_q(e) = 2 max(q e, (q - 1) e), e = z - z_q; at q = ½ the absolute error.
        """
        q, middle = raw.new_tensor(self.levels), len(self.levels) // 2
        error = frame.z_of(y).unsqueeze(-1) - self.known(raw, anchor)
        each = 2 * torch.maximum(q * error, (q - 1) * error) * frame.scale.unsqueeze(-1)
        return each[..., middle] + (each.sum(-1) - each[..., middle]) / max(2 * middle, 1)

    def at(self, levels: Sequence[float], raw: Tensor, anchor: Tensor, frame: Frame) -> Tensor:
        """The forecast's quantiles [M, h, Q], those between two that are known drawn straight, none beyond them."""
        known = self.known(raw, anchor)
        if len(self.levels) == 1:
            return frame.y_of(known.squeeze(-1)).unsqueeze(-1).expand(*anchor.shape, len(levels))
        return torch.stack([frame.y_of(self._between(level, known)) for level in levels], -1)

    def _between(self, level: float, known: Tensor) -> Tensor:
        above = int(np.clip(np.searchsorted(self.levels, level), 1, len(self.levels) - 1))
        low, high = self.levels[above - 1], self.levels[above]
        return known[..., above - 1].lerp(known[..., above], min(max((level - low) / (high - low), 0.0), 1.0))


class Gaussian:
    """z is normal: a log-normal y where the transform is a logarithm."""

    numbers = 2

    def _of(self, raw: Tensor, anchor: Tensor) -> tuple[Tensor, Tensor]:
        return anchor + raw[..., 0], softplus(raw[..., 1]) + SMALLEST

    def loss(self, raw: Tensor, anchor: Tensor, y: Tensor, frame: Frame) -> Tensor:
        """-log p(z)."""
        mean, deviation = self._of(raw, anchor)
        log_p: Tensor = distributions.Normal(mean, deviation, validate_args=False).log_prob(frame.z_of(y))
        return -log_p

    def at(self, levels: Sequence[float], raw: Tensor, anchor: Tensor, frame: Frame) -> Tensor:
        """The forecast's quantiles [M, h, Q]."""
        mean, deviation = self._of(raw, anchor)
        normal = torch.special.ndtri(torch.tensor(levels, dtype=torch.float64)).tolist()
        return torch.stack([frame.y_of(mean + deviation * x) for x in normal], -1)


class StudentT:
    """z has Student's t distribution, with more than two degrees of freedom."""

    numbers = 3

    def _of(self, raw: Tensor, anchor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return 2 + softplus(raw[..., 2]), anchor + raw[..., 0], softplus(raw[..., 1]) + SMALLEST

    def loss(self, raw: Tensor, anchor: Tensor, y: Tensor, frame: Frame) -> Tensor:
        """-log p(z)."""
        log_p: Tensor = distributions.StudentT(*self._of(raw, anchor), validate_args=False).log_prob(frame.z_of(y))
        return -log_p

    def at(self, levels: Sequence[float], raw: Tensor, anchor: Tensor, frame: Frame) -> Tensor:
        """The forecast's quantiles [M, h, Q]."""
        freedom, middle, spread = self._of(raw, anchor)
        parts = [middle if level == 0.5 else middle + spread * _ppf(level, freedom) for level in levels]
        return torch.stack([frame.y_of(part) for part in parts], -1)


class NegativeBinomial:
    """y is a count: mean μ, variance μ + α μ² (Salinas et al. 2020, DeepAR, section 3.1)."""

    numbers = 2

    def _of(self, raw: Tensor, anchor: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
        mean = frame.y_of(anchor + raw[..., 0]).clamp_min(1e-4)
        return mean, 1 / (softplus(raw[..., 1]) + 1e-4)

    def loss(self, raw: Tensor, anchor: Tensor, y: Tensor, frame: Frame) -> Tensor:
        """-log p(y)."""
        mean, count = self._of(raw, anchor, frame)
        logits = mean.log() - count.log()
        log_p: Tensor = distributions.NegativeBinomial(count, logits=logits, validate_args=False).log_prob(y)
        return -log_p

    def at(self, levels: Sequence[float], raw: Tensor, anchor: Tensor, frame: Frame) -> Tensor:
        """The forecast's quantiles [M, h, Q], whole numbers."""
        mean, count = (part.double().cpu().numpy() for part in self._of(raw, anchor, frame))
        parts = [special.nbdtrik(level, count, count / (count + mean)) for level in levels]
        return torch.from_numpy(np.ceil(np.stack(parts, -1)).clip(0)).to(raw)


Head = Quantiles | Gaussian | StudentT | NegativeBinomial


def head_named(name: str, levels: Sequence[float]) -> Head:
    """The head: point, quantile, gaussian, student-t, negative-binomial; `levels` are those of quantile."""
    if name in ("point", "quantile"):
        return Quantiles((0.5,) if name == "point" else tuple(levels))
    others: dict[str, Head] = {
        "gaussian": Gaussian(),
        "student-t": StudentT(),
        "negative-binomial": NegativeBinomial(),
    }
    return others[name]


def levels_of(intervals: Sequence[float]) -> tuple[float, ...]:
    """The quantiles at the edges of central intervals, and the median: 80 gives 0.1, 0.5, 0.9."""
    edges = [0.5 + sign * share / 200 for share in intervals for sign in (-1, 1)]
    return tuple(sorted({0.5, *(round(edge, 6) for edge in edges)}))


def _ppf(level: float, freedom: Tensor) -> Tensor:
    return torch.from_numpy(special.stdtrit(freedom.double().cpu().numpy(), level)).to(freedom)
