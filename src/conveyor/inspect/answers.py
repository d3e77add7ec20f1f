"""What the page asks for, and what it is told: the same whether it is served or written into one file."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from conveyor.errors import ConveyorError
from conveyor.inspect.measures import LEVELS, ON, PATTERNS, SIZE, Measured, flow, lesson
from conveyor.inspect.recording import QUANTITIES, Recording, Track

MOST = 12
"""Units that are listed as the most selective."""
NEAR = 16
"""Steps shown on both sides of a place."""
TITLED = 500
"""Steps of a sequence that is compared with the examples."""
FLOW = 200
"""Steps that gradients are followed back over."""


class Example(NamedTuple):
    """A sentence of the textbooks, and what to look for in it."""

    text: str
    look: str


EXAMPLES = (
    Example(
        "Bob is a nice person. Dan, on the other hand, is evil.",
        "At the full stop the forget gate should let Bob go: look for units whose f falls there and whose c was far "
        "from 0 since Bob.",
    ),
    Example(
        "Bob knows swimming. He told me over the phone that he had served the navy for four long years.",
        "The input gate: that he served the navy is worth keeping, that he told it over the phone is not. Compare i at "
        "navy and at phone.",
    ),
    Example(
        "Bob single-handedly fought the enemy and died for his country. For his contributions, brave ",
        "What the output gate lets through at the end, where a name is wanted; and which words are expected next.",
    ),
)


class Answers:
    """Recordings, and answers about them by name: `answers("block", {"r": "0", "layer": "1", …})`.

    JSON for all but blocks, which are little-endian float32 [steps, units].
    """

    def __init__(self, recordings: Sequence[Recording], about: Mapping[str, Any]) -> None:
        self.recordings, self.about = [*recordings], dict(about)
        self._lock = threading.RLock()
        self._measured = lru_cache(64)(lambda r, layer: Measured(self.recordings[r], self.recordings[r].layers[layer]))
        self.version = 0

    def __call__(self, name: str, query: Mapping[str, str]) -> Any:
        """Bytes for a block, else what JSON can hold; ConveyorError for what cannot be asked."""
        known: dict[str, Callable[[dict[str, str]], Any]] = {
            "about": self._about, "steps": self._steps, "block": self._block, "order": self._order, "rows": self._rows,
            "selective": self._selective, "span": self._span, "memory": self._memory, "saturation": self._saturation,
            "flow": self._flow, "lifetimes": self._lifetimes, "lesson": self._lesson,
        }  # fmt: skip
        if name not in known:
            raise ConveyorError(f"[inspect] {name[:40]!r}: expected one of {', '.join(known)}")
        with self._lock:
            return known[name](dict(query))

    def add(self, recording: Recording) -> int:
        """Show one more; its number."""
        with self._lock:
            self.recordings.append(recording)
            self.version += 1
            return len(self.recordings) - 1

    def replace(self, recordings: Sequence[Recording]) -> None:
        """Show these instead."""
        with self._lock:
            self.recordings = [*recordings]
            self._measured.cache_clear()
            self.version += 1

    def _about(self, query: Mapping[str, str]) -> dict[str, Any]:
        return self.about | {
            "version": self.version,
            "quantities": [*QUANTITIES],
            "patterns": [*PATTERNS],
            "block": SIZE,
            "levels": LEVELS,
            "on": ON,
            "examples": [example._asdict() for example in EXAMPLES],
            "recordings": [
                {
                    "title": one.title,
                    "text": "".join(one.labels) if len(one) <= TITLED else "",
                    "steps": len(one),
                    "told": one.told,
                    "layers": [
                        {
                            "name": of.name,
                            "units": of.units,
                            "steps": len(of),
                            "plain": of.plain,
                            "reverse": of.reverse,
                            "own": one.track(of) is not one,
                        }
                        for of in one.layers
                    ],
                }
                for one in self.recordings
            ],
        }

    def _steps(self, query: Mapping[str, str]) -> dict[str, Any]:
        """What was read and expected in block n of the steps, of a layer's where one is named."""
        one, n = self._track(query), _whole(query, "n")
        first, last = n * SIZE, min((n + 1) * SIZE, len(one))
        came = [] if one.came is None else one.came[first:last].tolist()
        return {
            "labels": one.labels[first:last],
            "came": [None if math.isnan(p) else round(p, 6) for p in came],
            "expected": [[(name, round(p, 6)) for name, p in one.expected(n)] for n in range(first, last)],
        }

    def _block(self, query: Mapping[str, str]) -> bytes:
        values = self._layer(query).block(query.get("q", "c"), _whole(query, "level"), _whole(query, "n"))
        return values.astype("<f4").tobytes()

    def _order(self, query: Mapping[str, str]) -> list[int]:
        order: list[int] = self._layer(query).order(query.get("by", "unit"), query.get("pattern", "")).tolist()
        return order

    def _rows(self, query: Mapping[str, str]) -> dict[str, Any]:
        return self._layer(query).layer.rows(self._unit(query))

    def _selective(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        """The units of all layers that go together with a pattern most."""
        r = _whole(query, "r")
        one, found = self._recording(query), []
        for n in range(len(one.layers)):
            each = self._measured(r, n).selectivity(query.get("pattern", ""))
            found += [(float(score), n, unit) for unit, score in enumerate(each)]
        best = sorted(found, key=lambda row: -abs(row[0]))[:MOST]
        return [{"layer": n, "unit": unit, "correlation": round(score, 4)} for score, n, unit in best]

    def _span(self, query: dict[str, str]) -> dict[str, Any]:
        """Units that are on in a span, and where else they are: in this recording, or `among` another."""
        first, last = self._bounds(query)
        there = query | {"r": query.get("among", query.get("r", "0"))}
        units, places = self._layer(query).matches(first, last, self._layer(there))
        labels = self._track(there | {"layer": query.get("layer", "0")}).labels
        return {
            "units": units.tolist(),
            "places": [
                {
                    "first": at,
                    "share": round(share, 4),
                    "before": "".join(labels[max(0, at - NEAR) : at]),
                    "text": "".join(labels[at : at + last - first]),
                    "behind": "".join(labels[at + last - first : at + last - first + NEAR]),
                }
                for at, share in places
            ],
        }

    def _memory(self, query: Mapping[str, str]) -> dict[str, Any]:
        layer, step = self._layer(query), _whole(query, "step")
        if step >= len(layer.layer):
            raise ConveyorError(f"[inspect] step {step}: expected 0 to {len(layer.layer) - 1}")
        return layer.memory(step)

    def _saturation(self, query: Mapping[str, str]) -> dict[str, Any]:
        sums = self._layer(query).sums
        return {side: {gate: _short(each) for gate, each in getattr(sums, side).items()} for side in ("left", "right")}

    def _lifetimes(self, query: Mapping[str, str]) -> list[float]:
        return _short(self._layer(query).lifetimes)

    def _flow(self, query: Mapping[str, str]) -> dict[str, list[float]]:
        layer = self._layer(query).layer
        return {name: _short(curve) for name, curve in flow(layer, 0, min(len(layer), FLOW)).items()}

    def _lesson(self, query: Mapping[str, str]) -> dict[str, Any]:
        layer, unit = self._layer(query).layer, self._unit(query)
        return lesson(layer, unit, *self._bounds(query))

    def _unit(self, query: Mapping[str, str]) -> int:
        unit, units = _whole(query, "unit"), self._layer(query).layer.units
        if unit >= units:
            raise ConveyorError(f"[inspect] unit {unit}: expected 0 to {units - 1}")
        return unit

    def _recording(self, query: Mapping[str, str]) -> Recording:
        r = _whole(query, "r")
        if r >= len(self.recordings):
            raise ConveyorError(f"[inspect] recording {r}: expected 0 to {len(self.recordings) - 1}")
        return self.recordings[r]

    def _track(self, query: Mapping[str, str]) -> Track:
        one = self._recording(query)
        return one.track(one.layers[self._layer_number(query)]) if "layer" in query else one

    def _layer_number(self, query: Mapping[str, str]) -> int:
        layers, layer = self._recording(query).layers, _whole(query, "layer")
        if layer >= len(layers):
            raise ConveyorError(f"[inspect] layer {layer}: expected 0 to {len(layers) - 1}")
        return layer

    def _layer(self, query: Mapping[str, str]) -> Measured:
        return self._measured(_whole(query, "r"), self._layer_number(query))

    def _bounds(self, query: Mapping[str, str]) -> tuple[int, int]:
        first, last = _whole(query, "first"), _whole(query, "last")
        if first >= last:
            raise ConveyorError(f"[inspect] steps {first} to {last}: expected a first before the last")
        return first, last


def _whole(query: Mapping[str, str], name: str) -> int:
    """A whole number of 0 or more; 0 if it is not given."""
    text = query.get(name, "0")
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise ConveyorError(f"[inspect] {name}: expected a whole number of 0 or more, got {text[:20]!r}")
    return int(text)


def _short(values: Any, digits: int = 5) -> list[float]:
    return [float(f"{value:.{digits}g}") for value in np.asarray(values)]


def encoded(answer: Any) -> bytes:
    """An answer as it is sent."""
    return answer if isinstance(answer, bytes) else json.dumps(answer, ensure_ascii=False, allow_nan=False).encode()
