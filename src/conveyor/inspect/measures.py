"""What is measured of a recording: orders of units, what they are selective for, memory, saturation, gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import regex
import torch
from torch import Tensor

from conveyor.errors import ConveyorError
from conveyor.inspect.recording import QUANTITIES, Layer, Recording, Track
from conveyor.nn import LSTM, RNN

ON = 0.3
"""A unit is on where its output is larger than this in size (H. Strobelt et al. 2018, LSTMVis)."""
LEFT, RIGHT = 0.1, 0.9
"""A gate below and above these is left- and right-saturated (A. Karpathy et al. 2015)."""
WINDOW = 64
"""Steps whose influence on a later one is measured."""
DIRECTIONS = 8
"""Random directions of the output that a gradient is a mean over."""
SIZE = 256
"""Steps of a block of the heat map."""
READ = 4096
"""Steps whose gates are in memory at once."""
LEVELS = 12
CLUSTERED = 512
"""Steps that units are clustered by."""

PATIENCE = 2.0
"""Seconds in which a pattern must have been found everywhere."""
EXPECTED = "expected:"
PATTERNS: dict[str, str] = {
    "inside quotes": r"[\"“”][^\"“”\n]*[\"“”]",
    "inside brackets": r"\([^()\n]*\)|\[[^\[\]\n]*\]|\{[^{}\n]*\}",
    "line ends": r"\n",
    "capitals": r"[A-Z]",
    "digits": r"\d",
    "spaces": r"[ \t]",
    "full stops": r"[.!?]",
}
"""What units may be selective for, besides what a user writes."""


class Sums(NamedTuple):
    """Over all steps, of each unit [units]."""

    mean: dict[str, np.ndarray]
    variance: dict[str, np.ndarray]
    left: dict[str, np.ndarray]
    """The share of steps at which each gate is left-saturated."""
    right: dict[str, np.ndarray]
    log_f: np.ndarray
    """The mean of log f."""


@dataclass(eq=False)
class Measured:
    """A layer of a recording, measured; all of it is read at most once for each measure."""

    recording: Recording
    layer: Layer

    @cached_property
    def sums(self) -> Sums:
        """Means and the like over all steps."""
        count, H = len(self.layer), self.layer.units
        first, second = ({q: np.zeros(H) for q in QUANTITIES} for _ in range(2))
        left, right = ({q: np.zeros(H) for q in "ifo"} for _ in range(2))
        log_f = np.zeros(H)
        for _, part in self.layer.stretches():
            for q in QUANTITIES:
                values = getattr(part, q).astype(np.float64)
                first[q] += values.sum(0)
                second[q] += np.square(values).sum(0)
            for q in "ifo":
                left[q] += (getattr(part, q) < LEFT).sum(0)
                right[q] += (getattr(part, q) > RIGHT).sum(0)
            log_f += np.log(part.f.astype(np.float64).clip(1e-12)).sum(0)
        mean = {q: first[q] / count for q in QUANTITIES}
        variance = {q: (second[q] / count - mean[q] ** 2).clip(0) for q in QUANTITIES}
        low, high = ({q: part[q] / count for q in "ifo"} for part in (left, right))
        return Sums(mean, variance, low, high, log_f / count)

    @cached_property
    def lifetimes(self) -> np.ndarray:
        """Steps until 1/e of what is on the belt is left, -1 / mean(log f), of each unit; at most a million."""
        steps: np.ndarray = -1 / self.sums.log_f.clip(None, -1e-6)
        return steps

    @cached_property
    def clusters(self) -> np.ndarray:
        """Units so that those whose cell states go together stand together."""
        from scipy.cluster.hierarchy import leaves_list, linkage  # type: ignore[import-untyped]

        c = self.layer.at(0, min(len(self.layer), CLUSTERED)).c.T
        if len(c) < 3:
            return np.arange(len(c))
        c = c - c.mean(1, keepdims=True)
        c = c / np.linalg.norm(c, axis=1, keepdims=True).clip(1e-9)
        order: np.ndarray = leaves_list(linkage(c, "average"))
        return order

    def order(self, by: str, pattern: str = "") -> np.ndarray:
        """Units: as they are (`unit`), by `variance` of c, by `cluster`, by `lifetime`, or how `selective` they are."""
        if by == "unit":
            return np.arange(self.layer.units)
        if by == "cluster":
            return self.clusters
        keys: dict[str, Callable[[], np.ndarray]] = {
            "variance": lambda: self.sums.variance["c"],
            "lifetime": lambda: self.lifetimes,
            "selective": lambda: np.abs(self.selectivity(pattern)),
        }
        if by not in keys:
            raise ConveyorError(f"[inspect] order {by!r}: expected unit, cluster, {', '.join(keys)}")
        order: np.ndarray = np.argsort(-keys[by](), kind="stable")
        return order

    def selectivity(self, pattern: str) -> np.ndarray:
        """The correlation of each unit's cell state [units] with being where a pattern is, over all steps."""
        there = where(self.recording.track(self.layer), pattern).astype(np.float64)
        there -= there.mean()
        both = np.zeros(self.layer.units)
        for first, part in self.layer.stretches():
            both += there[first : first + len(part.c)] @ part.c
        scale = len(self.layer) * there.std() * np.sqrt(self.sums.variance["c"])
        found: np.ndarray = np.divide(both, scale, out=np.zeros_like(both), where=scale > 1e-12)
        return found

    def block(self, quantity: str, level: int, number: int) -> np.ndarray:
        """A block of the heat map [SIZE, units] or what is left for it: each of its steps is the mean of 2^level."""
        if quantity not in (*QUANTITIES, "x") or not 0 <= level <= LEVELS:
            raise ConveyorError(
                f"[inspect] block: expected one of {', '.join(QUANTITIES)}, x and a level, 0 to {LEVELS}, got "
                f"{quantity} and {level}"
            )
        width = 1 << level
        first = number * SIZE * width
        last = min(len(self.layer), first + SIZE * width)
        rows = [
            _pooled(getattr(self.layer.at(at, min(last, at + READ)), quantity), width)
            for at in range(first, last, READ)
        ]
        return np.concatenate(rows) if rows else np.zeros((0, self.layer.units), np.float32)

    def on_in(self, first: int, last: int) -> np.ndarray:
        """Units that are on at every step of a span."""
        h = self.layer.at(first, last).h
        return np.flatnonzero((h > ON).all(0) | (h < -ON).all(0))

    def matches(
        self, first: int, last: int, within: Measured | None = None, count: int = 12
    ) -> tuple[np.ndarray, list[tuple[int, float]]]:
        """The units that are on in a span, and other places, where the most of them are: (first step, share of them).

        A place is as long as the span, and none overlaps the span or a better place; all are of this recording, or of
        the same layer `within` another.
        """
        units, length, among = self.on_in(first, last), last - first, (within or self).layer
        if not len(units) or length > len(among) or among.units != self.layer.units:
            return units, []
        signs = np.sign(self.layer.at(first, first + 1).h[0, units])
        on = np.concatenate([(part.h[:, units] * signs > ON).mean(1) for _, part in among.stretches()])
        shares = np.convolve(on, np.ones(length) / length, "valid")
        places: list[tuple[int, float]] = []
        taken = [first] if among is self.layer else []
        for at in np.argsort(-shares, kind="stable").tolist():
            if len(places) == count:
                break
            if all(abs(at - other) >= length for other in taken):
                taken.append(at)
                places.append((at, float(shares[at])))
        return units, places

    def memory(self, step: int) -> dict[str, Any]:
        """How strongly the steps near one still move the LSTM's output y at it, the oldest first, from step `first` on.

        `gradient`: the Frobenius norm of dy_t / dx_s, by random directions; `occlusion`: how far y_t moves, relative to
        its size, when x_s is zero. Steps that are later count where the LSTM reads in both directions.
        """
        lstm, both = self.layer.lstm, self.layer.lstm.bidirectional
        begin, end = max(0, step + 1 - WINDOW), min(len(self.layer), step + WINDOW) if both else step + 1
        first, last = (0, len(self.layer)) if both else (begin, end)
        x, states = self._given(first, last)
        target, near = step - first, torch.arange(begin - first, end - first)
        with torch.inference_mode(False):
            x, states = x.clone(), states and tuple(part.clone() for part in states)
            norms = gradient_norms(lstm, x, states, target)[near]
            with torch.no_grad():
                y = lstm(x, states)[0][target, 0]
                hidden = x.repeat(1, len(near), 1)
                hidden[near, torch.arange(len(near))] = 0
                wide = states and tuple(part.repeat(1, len(near), 1) for part in states)
                moved = (lstm(hidden, wide)[0][target] - y).norm(dim=1) / y.norm().clamp_min(1e-9)
        return {"first": begin, "gradient": norms.tolist(), "occlusion": moved.tolist()}

    def _given(self, first: int, last: int) -> tuple[Tensor, tuple[Tensor, ...] | None]:
        """The input of the LSTM over some steps [n, 1, I], and its state before them."""
        layers = [one for one in self.recording.layers if one.lstm is self.layer.lstm]
        x = torch.from_numpy(layers[0].at(first, last).x).unsqueeze(1)
        if self.layer.lstm.bidirectional:
            return x, None
        edges = [one.at(first, first + 1) for one in layers]
        stacked = ([edge.h_before for edge in edges], [edge.c_before for edge in edges])
        return x, tuple(torch.from_numpy(np.stack(part)).unsqueeze(1) for part in stacked)


def _pooled(values: np.ndarray, width: int) -> np.ndarray:
    """Means of so many rows; the last may be of fewer."""
    if width == 1:
        return values
    bounds = np.arange(0, len(values), width)
    counts = np.diff([*bounds, len(values)])
    return np.asarray(np.add.reduceat(values, bounds) / counts[:, None], np.float32)


def where(track: Track, pattern: str) -> np.ndarray:
    """The steps [T] in what a pattern matches.

    A name in PATTERNS, a regular expression over all that was read, or `expected:` and a name: where that is the
    likeliest of all.
    """
    if pattern.startswith(EXPECTED) and track.told:
        name = pattern.removeprefix(EXPECTED)
        if name not in track.names:
            raise ConveyorError(f"[inspect] {pattern!r}: expected one of {', '.join(track.names[:40])}")
        likeliest: np.ndarray = track.likeliest() == track.names.index(name)
        return likeliest
    try:
        matcher = regex.compile(PATTERNS.get(pattern, pattern))
    except regex.error as error:
        raise ConveyorError(f"[inspect] {pattern!r}: expected a regular expression, but {error}; mend it") from None
    ends = np.cumsum([len(label) for label in track.labels])
    text = "".join(track.labels)
    inside = np.zeros(len(text) + 1, np.int64)
    try:
        for match in matcher.finditer(text, timeout=PATIENCE, concurrent=True):
            inside[match.start()] += 1
            inside[match.end()] -= 1
    except TimeoutError:
        raise ConveyorError(
            f"[inspect] {pattern!r}: not found out within {PATIENCE:g} s; expected a pattern that looks back less"
        ) from None
    covered = np.concatenate([[0], np.cumsum(inside[:-1].cumsum() > 0)])
    starts = np.concatenate([[0], ends[:-1]])
    there: np.ndarray = covered[ends] > covered[starts]
    return there


def gradient_norms(lstm: LSTM | RNN, x: Tensor, states: Any = None, target: int = -1) -> Tensor:
    """The Frobenius norm of dy_t / dx_s for all s [T] of a sequence [T, 1, I], t the `target`.

    The square is the mean over random directions v of |v dy_t / dx_s|^2, v ~ N(0, 1).
    """
    wide = x.detach().repeat(1, DIRECTIONS, 1).requires_grad_()
    if states is not None:
        states = tuple(part.repeat(1, DIRECTIONS, 1) for part in states)
    y = lstm(wide, states)[0][target]
    directions = torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
    [slope] = torch.autograd.grad((y * directions).sum(), wide)
    norms: Tensor = slope.square().sum(2).mean(1).sqrt()
    return norms


def flow(layer: Layer, first: int, last: int) -> dict[str, list[float]]:
    """How gradients fade on their way back from the last of some steps: of this layer, and of fresh ones of its size.

    Each curve is that of `gradient_norms`, relative to the last step's.
    """
    x = torch.from_numpy(layer.at(first, last).x).unsqueeze(1)
    size = (x.shape[-1], layer.units)
    torch.manual_seed(0)
    modules: dict[str, LSTM | RNN] = {
        "this LSTM": alone(layer),
        "an untrained LSTM": LSTM(*size, forget_bias=1.0),
        "an untrained plain RNN": RNN(*size),
    }
    with torch.inference_mode(False):
        curves = {name: gradient_norms(module, x.clone()) for name, module in modules.items()}
    return {name: (norms / norms[-1].clamp_min(1e-30)).tolist() for name, norms in curves.items()}


@torch.inference_mode()
def lesson(layer: Layer, unit: int, first: int, last: int) -> dict[str, Any]:
    """A unit over some steps, for those who learn: in an untrained plain RNN, and in the layer read in both directions.

    `rnn` is h of the RNN, `rnn_sums` the parts W x_t, U h_{t-1} and b of its sum; `forward` and `backward` are h of the
    layer, which begins at either end; `c_before` is its cell state before the first step.
    """
    part = layer.at(first, last)
    x = torch.from_numpy(part.x)
    torch.manual_seed(0)
    rnn, lstm = RNN(x.shape[1], layer.units), alone(layer)
    h, _ = rnn(x)
    before = torch.cat([torch.zeros(1, layer.units), h[:-1]])
    w_ih, w_hh, b_ih, b_hh = rnn.all_weights[0]
    sums = torch.stack([x @ w_ih[unit], before @ w_hh[unit], (b_ih + b_hh)[unit].expand(len(x))], 1)
    return {
        "rnn": h[:, unit].tolist(),
        "rnn_sums": sums.tolist(),
        "forward": lstm(x)[0][:, unit].tolist(),
        "backward": lstm(x.flip(0))[0].flip(0)[:, unit].tolist(),
        "c_before": float(part.c_before[unit]),
    }


def alone(layer: Layer) -> LSTM:
    """A layer and direction as an LSTM of its own, which reads forwards; its weights are not copied."""
    weights = layer.lstm.all_weights[layer.number]
    lstm = LSTM(weights[0].shape[1], layer.units, bias=layer.lstm.bias, variant=layer.lstm.variant, device="meta")
    for name, weight in zip([name for name, _ in lstm.named_parameters()], weights, strict=True):
        setattr(lstm, name, weight)
    return lstm.eval()
