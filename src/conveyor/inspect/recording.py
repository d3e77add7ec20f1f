"""A sequence as a trained network reads it: what it expected, and every gate of every layer at every step.

Recording costs what reading costs: kept is what each LSTM was given, and its state every so many steps. Gates are those
of the stretch that is asked for, read again from the state before it, bit for bit as they were.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from conveyor.data.records import BadRecords
from conveyor.equations import Gates
from conveyor.errors import ConveyorError
from conveyor.nn import LSTM, LSTMCell
from conveyor.nn.window import WindowLSTM
from conveyor.training.options import from_json
from conveyor.training.task import Model, Steps, name_of

QUANTITIES = ("i", "f", "g", "o", "c", "h")
"""Input gate, forget gate, candidate, output gate, cell state, what the output gate lets out of it."""
KEPT = 6
"""Stretches whose gates are at hand."""
LIKELIEST = 5
"""Outcomes that a step shows."""


class Call(NamedTuple):
    """What an LSTM was given at once, of the first row of its batch."""

    input: Tensor
    """[n, I]"""
    state: tuple[Tensor, Tensor] | None
    """[L D, H] each"""


class Stretch(NamedTuple):
    """A layer over some steps: [n, units], and its input [n, I]."""

    i: np.ndarray
    f: np.ndarray
    g: np.ndarray
    o: np.ndarray
    c: np.ndarray
    h: np.ndarray
    x: np.ndarray
    h_before: np.ndarray
    """[units], h before the first step, in the layer's direction."""
    c_before: np.ndarray


class Source:
    """One LSTM of the network, and all that it was given."""

    def __init__(self, name: str, lstm: LSTM, calls: Sequence[Call]) -> None:
        self.name, self.lstm, self.calls = name, lstm, calls
        self.ends = [*accumulate(len(call.input) for call in calls)]
        self.read = lru_cache(KEPT)(self._read)
        """The gates of every layer and direction in call n, [steps, units] each."""

    @torch.inference_mode()
    def _read(self, n: int) -> list[Gates]:
        input, state = self.calls[n]
        *_, found = self.lstm(
            input.unsqueeze(1), state and tuple(part.unsqueeze(1) for part in state), return_gates=True
        )
        return [Gates(*(gate[:, 0] for gate in gates)) for gates in found]


@dataclass(eq=False)
class Layer:
    """A layer and direction of one LSTM of the network."""

    source: Source
    number: int
    """In torch's order: layer 0, its reverse, layer 1 …"""

    def __len__(self) -> int:
        return self.source.ends[-1]

    @property
    def lstm(self) -> LSTM:
        """The LSTM whose layer it is."""
        return self.source.lstm

    @property
    def name(self) -> str:
        """That of the LSTM in the network, and the layer's number."""
        layer, reverse = divmod(self.number, 1 + self.lstm.bidirectional)
        return f"{self.source.name} {layer + 1}{' reverse' if reverse else ''}"

    @property
    def units(self) -> int:
        """H."""
        return self.lstm.hidden_size

    @property
    def reverse(self) -> bool:
        """Whether it reads from the end."""
        return bool(self.lstm.bidirectional and self.number % 2)

    @property
    def plain(self) -> bool:
        """Whether its equations are those of the LSTM as it is in torch."""
        return self.lstm.variant == "lstm" and not self.lstm.proj_size

    def stretches(self) -> Iterator[tuple[int, Stretch]]:
        """All of it, with the first step of each stretch."""
        for n, end in enumerate(self.source.ends):
            yield end - len(self.source.calls[n].input), self._read(n)

    def at(self, first: int, last: int) -> Stretch:
        """Steps `first` to `last`, which is not counted."""
        parts = []
        for n, end in enumerate(self.source.ends):
            begin = end - len(self.source.calls[n].input)
            if begin < last and first < end:
                whole, cut = self._read(n), slice(max(0, first - begin), min(end, last) - begin)
                parts.append(Stretch._make([*(part[cut] for part in whole[:7]), *_before(whole, cut, self.reverse)]))
        if not parts:
            raise ConveyorError(f"[inspect] steps {first} to {last}: expected some of the {len(self):,} that were read")
        edge = parts[-1 if self.reverse else 0][7:]
        return Stretch._make([*(np.concatenate([part[q] for part in parts]) for q in range(7)), *edge])

    def rows(self, unit: int) -> dict[str, list[Any]]:
        """The rows of a unit in the weights for i, f, g, o: of the input, of h, and the sum of both biases."""
        weights = self.lstm.all_weights[self.number]
        at = [gate * self.units + unit for gate in range(4)]
        bias = sum(weights[2:4], torch.zeros(len(weights[0]))) if self.lstm.bias else torch.zeros(len(weights[0]))
        return {"x": weights[0][at].tolist(), "h": weights[1][at].tolist(), "b": bias[at].tolist()}

    def _read(self, n: int) -> Stretch:
        input, state = self.source.calls[n]
        found, D = self.source.read(n), 1 + self.lstm.bidirectional
        i, f, g, o, c = (gate.float().numpy() for gate in found[self.number])
        h = o * np.tanh(c)
        below = found[self.number // D * D - D : self.number // D * D] if self.number >= D else []
        x = torch.cat([gates.o * gates.c.tanh() for gates in below], -1) if below else input
        zero = np.zeros(self.units, np.float32)
        start = (zero, zero) if state is None else (part[self.number].float().numpy() for part in state)
        return Stretch(i, f, g, o, c, h, x.float().numpy(), *start)


def _before(whole: Stretch, cut: slice, reverse: bool) -> tuple[np.ndarray, np.ndarray]:
    """The state before a part of a stretch."""
    edge = cut.stop if reverse else cut.start - 1
    inside = edge < len(whole.c) if reverse else edge >= 0
    return (whole.h[edge], whole.c[edge]) if inside else whole[7:]


class Track:
    """Steps that LSTMs went in, what was read at each, and what was expected then.

    `labels` are what was read; `expected(step)` is what was expected of `names` then, and `came` how probable what came
    was held to be; None where the task does not say.
    """

    def __init__(self, steps: Sequence[Steps]) -> None:
        self.labels = [label for some in steps for label in some.labels]
        self.names = [*steps[0].names] if steps else []
        came = [some.came for some in steps if some.came is not None]
        self.came = np.concatenate(came) if came else None
        self.told = bool(steps) and all(some.p for some in steps)
        """Whether it is known what was expected."""
        self._steps, self._ends = [*steps], [*accumulate(len(some.labels) for some in steps)]
        self._likeliest = lru_cache(KEPT)(self._likeliest_of)

    def __len__(self) -> int:
        return len(self.labels)

    def expected(self, step: int) -> list[tuple[str, float]]:
        """The likeliest of what the network expected at a step, the likeliest first."""
        if not self.told:
            return []
        n = bisect_right(self._ends, step)
        places, p = self._likeliest(n)
        at = step - self._ends[n] + len(self._steps[n].labels)
        return [(self.names[name], float(share)) for name, share in zip(places[at], p[at], strict=True)]

    def likeliest(self) -> np.ndarray:
        """What was expected most at each step [T]: numbers of names."""
        return np.concatenate([self._likeliest(n)[0][:, 0] for n in range(len(self._steps))])

    @torch.inference_mode()
    def _likeliest_of(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        of = self._steps[n].p
        assert of is not None
        p = of()
        best = p.topk(min(LIKELIEST, p.shape[-1]))
        return best.indices.numpy(), best.values.numpy()


class Recording(Track):
    """A sequence as a network read it.

    Its own steps are those of most layers; `track(layer)` has those of one. `layers` are every layer and
    direction of the network's LSTMs, and `at(layer, first, last)` their gates, cell states and outputs over some steps.
    """

    def __init__(self, title: str, steps: Sequence[Steps], layers: Sequence[Layer]) -> None:
        super().__init__([some for some in steps if not some.of])
        self.title, self.layers = title, [*layers]
        self._tracks = {
            of: Track([some for some in steps if some.of == of]) for of in {some.of for some in steps} - {""}
        }

    def track(self, layer: Layer) -> Track:
        """The steps that a layer went in; those that the task does not name are numbered."""
        own = [track for of, track in self._tracks.items() if f".{of}." in f".{layer.source.name}."]
        for track in (*own, self):
            if len(track) == len(layer):
                return track
        return Track([numbered(len(layer))])

    def at(self, layer: int, first: int = 0, last: int | None = None) -> Stretch:
        """A layer over some steps, all if none are named; arrays [n, units]."""
        if not 0 <= layer < len(self.layers):
            raise ConveyorError(f"[inspect] layer {layer}: expected 0 to {len(self.layers) - 1}")
        return self.layers[layer].at(first, len(self.layers[layer]) if last is None else last)


def numbered(count: int) -> Steps:
    """Steps of which nothing is known but their numbers."""
    return Steps([f"{n} " for n in range(count)])


def record(model: Model, input: Any, title: str = "") -> Recording:
    """A sequence as a trained model reads it, in the form in which its task takes inputs to predict from.

    ConveyorError if the input is not one, or if the network has no LSTM.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from conveyor.tasks import language_model as task
    >>> from conveyor.training.task import Model
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     data = task.read(config := task.smoke(Path(folder)).config)
    >>> model = Model(task, config, data.facts, task.network(config, data.facts).eval())
    >>> seen = record(model, "Bob is a nice person.")
    >>> len(seen), seen.at(0, 2, 5).f.shape, len(seen.expected(20))
    (21, (3, 32), 5)
    """
    model.network.eval()
    with watching(model.network) as calls, torch.inference_mode():
        steps = [*model.task.steps(model, input)] if hasattr(model.task, "steps") else _predicted(model, input)
    sources = [Source(name, lstm, given) for name, lstm, given in calls if given]
    layers = [Layer(one, n) for one in sources for n in range(one.lstm.num_layers * (1 + one.lstm.bidirectional))]
    if not layers:
        raise ConveyorError(f"[inspect] {name_of(model.task)}: this network has no LSTM that read the input")
    if not steps:
        steps = [numbered(max(len(layer) for layer in layers))]
    return Recording(title or name_of(model.task), steps, layers)


def _predicted(model: Model, input: Any) -> list[Steps]:
    """Of a task that does not say what its steps are: whatever predicting makes its LSTMs read."""
    bad = BadRecords(False, "")
    model.task.predict(model, [input], from_json(model.task.PredictOptions, {}, "inspect"), bad)
    return []


@contextmanager
def watching(network: nn.Module) -> Iterator[list[tuple[str, LSTM, list[Call]]]]:
    """Keep what each LSTM and LSTM cell of a network is given while this lasts; what they give is not changed."""
    found: list[tuple[str, LSTM, list[Call]]] = []
    watched = []
    for name, module in network.named_modules():
        if isinstance(module, (LSTM, LSTMCell, WindowLSTM)):
            calls: list[Call] = []
            cell = module.cell if isinstance(module, WindowLSTM) else module
            found.append((name or "lstm", cell if isinstance(cell, LSTM) else as_layer(cell), calls))
            module.forward = _watched(module, calls)  # type: ignore[method-assign]
            watched.append(module)
    try:
        yield found
    finally:
        for module in watched:
            del module.forward


def _watched(module: nn.Module, calls: list[Call]) -> Any:
    plain = module.forward

    def windowed(x: Tensor, text: Tensor, lengths: Tensor, state: Any = None) -> Any:
        given = plain(x, text, lengths, state)
        shown = given[1][:, 0]  # it sees what the window showed at the step before
        before = torch.cat([shown[:1] * 0 if state is None else state[2].values[:1], shown[:-1]])
        calls.append(Call(torch.cat([x[:, 0], before], -1).detach(), state and (state[0][:1], state[1][:1])))
        return given

    if isinstance(module, WindowLSTM):
        return windowed

    def forward(input: Any, hx: Any = None, **options: Any) -> Any:
        calls.append(_call(module, input, hx, options.get("lengths")))
        return plain(input, hx, **options)

    return forward


def _call(module: nn.Module, input: Any, hx: Any, lengths: Any) -> Call:
    """The first row of a batch, as far as it goes."""
    if isinstance(module, LSTMCell):
        x = input if input.dim() == 1 else input[0]
        state = hx and tuple(part if part.dim() == 1 else part[0] for part in hx)
        return Call(x.detach()[None], state and (state[0].detach()[None], state[1].detach()[None]))
    if isinstance(input, nn.utils.rnn.PackedSequence):
        input, lengths = nn.utils.rnn.pad_packed_sequence(input)
    elif input.dim() == 3:
        input = input.transpose(0, 1) if module.batch_first else input
    x = input if input.dim() == 2 else input[:, 0]
    if lengths is not None:
        x = x[: int(torch.as_tensor(lengths).reshape(-1)[0])]
    state = hx and tuple(part if part.dim() == 2 else part[:, 0] for part in hx)
    return Call(x.detach(), state and (state[0].detach(), state[1].detach()))


def as_layer(cell: LSTMCell) -> LSTM:
    """A layer with the weights of a cell, which are not copied."""
    lstm = LSTM(cell.input_size, cell.hidden_size, bias=bool(cell.bias), device="meta")
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        if getattr(cell, name) is not None:
            setattr(lstm, f"{name}_l0", getattr(cell, name))
    return lstm.eval()
