"""What can differ between LSTMs, as one value, with the named ones of the literature."""

from __future__ import annotations

import difflib
import json
import math
from dataclasses import dataclass, fields, replace
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

GATES = ("i", "f", "g", "o")

ACTIVATIONS = {
    "sigmoid": (), "tanh": (), "identity": (), "relu": (), "softsign": (), "softplus": (), "leaky-relu": (0.01,),
    "thresholded-relu": (1.0,), "elu": (1.0,), "affine": (1.0, 0.0), "scaled-tanh": (1.0, 1.0),
    "hard-sigmoid": (0.2, 0.5),
}  # fmt: skip
"""The activations by name, with the defaults of their α and β; what each computes is in `conveyor.equations`."""

Activation = str | tuple[str | float, ...]
"""A name, or a name with its α and β: ("scaled-tanh", 2, 0.5)."""


class Squash(NamedTuple):
    """An activation with its numbers; those it has not are 0."""

    name: str
    alpha: float
    beta: float


@dataclass(frozen=True)
class Variant:
    """An LSTM that differs from that of Gers et al. 2000; `conveyor.equations.variant_step` is what it computes.

    Every field can be combined with every other but where that means nothing, which is refused.

    input_gate, forget_gate, output_gate: whether there is one; a gate that is not there is 1 and has no weights.
    coupled: f = 1 - i in place of a forget gate of its own (Greff et al. 2015).
    peepholes: the gates see the belt, i and f that before the step, o that after it (Gers et al. 2002).
    gate_recurrence: the gates see the gates of the step before (Hochreiter & Schmidhuber 1997; Greff et al. 2015).
        The state h then holds them behind its own features: [B, H + n*H], n the number of gates.
    layer_norm: the sums of the input and of the state, and the belt as it is shown, normalised over the units of a
        row (Ba et al. 2016).
    gate_activation, input_activation, output_activation: of the gates, of the candidate, and of the belt as it is
        shown; a name in `ACTIVATIONS`, or a name with its numbers.
    clip: bound on the magnitude of what the gates and the candidate are activations of (ONNX).
    cell_clip, proj_clip: bounds on the magnitude of the belt, and of the projected output (Sak et al. 2014).
    recurrent_dropout: probability of zeroing a unit's candidate at a step (Semeniuta et al. 2016).
    variational_dropout: probability of zeroing a feature of h in the recurrent product, the same at every step of a
        sequence (Gal & Ghahramani 2016).
    zoneout_cell, zoneout_hidden: probabilities that a unit's belt and output stay as they were before the step; in
        evaluation the expectation of it (Krueger et al. 2016).
    weight_dropout: probability of zeroing a recurrent weight for a whole sequence (Merity et al. 2017).
    forget_bias: as of `conveyor.LSTM`.

    Raises: ValueError for what is out of range, unknown, or means nothing.

    >>> Variant(peepholes=True, coupled=True).gates
    ('i', 'g', 'o')
    """

    input_gate: bool = True
    forget_gate: bool = True
    output_gate: bool = True
    coupled: bool = False
    peepholes: bool = False
    gate_recurrence: bool = False
    layer_norm: bool = False
    gate_activation: Activation = "sigmoid"
    input_activation: Activation = "tanh"
    output_activation: Activation = "tanh"
    clip: float | None = None
    cell_clip: float | None = None
    proj_clip: float | None = None
    recurrent_dropout: float = 0.0
    variational_dropout: float = 0.0
    zoneout_cell: float = 0.0
    zoneout_hidden: float = 0.0
    weight_dropout: float = 0.0
    forget_bias: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            check = _number if field.name == "forget_bias" else _CHECKS[str(field.type)]
            check(field.name, getattr(self, field.name))
        self._refuse(
            self.coupled and not (self.input_gate and self.forget_gate), "coupled", "f = 1 - i takes both gates"
        )
        without = not (self.input_gate or self.forget_gate or self.output_gate)
        for name in ("peepholes", "gate_recurrence"):
            self._refuse(getattr(self, name) and without, name, "there is no gate to see anything")
        self._refuse(self.gate_activation != "sigmoid" and without, "gate_activation", "there is no gate")
        norm = "a sum of three terms has no such norm in the literature"
        self._refuse(self.gate_recurrence and self.layer_norm, "gate_recurrence", f"with layer_norm {norm}")
        bias = "there is no forget gate of its own whose bias it could be"
        self._refuse(self.forget_bias is not None and "f" not in self.gates, "forget_bias", bias)

    def _refuse(self, wrong: bool, name: str, why: str) -> None:
        if wrong:
            raise ValueError(f"Variant: {name}={getattr(self, name)!r}: {why}")

    @property
    def gates(self) -> tuple[str, ...]:
        """Those with weights of their own, the candidate g among them, in torch's order."""
        there = (self.input_gate, self.forget_gate and not self.coupled, True, self.output_gate)
        return tuple(gate for gate, is_there in zip(GATES, there, strict=True) if is_there)

    @property
    def doors(self) -> tuple[str, ...]:
        """The gates proper: all but the candidate."""
        return tuple(gate for gate in self.gates if gate != "g")

    def seen(self, H: int) -> int:
        """How many values the state of H units holds behind h: the gates, where gates see gates."""
        return len(self.doors) * H if self.gate_recurrence else 0

    @property
    def noise(self) -> tuple[str, ...]:
        """The fields that draw random numbers for each unit, row and step, in the order of `equations.Noise`."""
        return tuple(name for name in NOISE if getattr(self, name))

    @property
    def squashes(self) -> tuple[Squash, Squash, Squash]:
        """The activations of the gates, the candidate and the belt, with all their numbers."""
        return _squash(self.gate_activation), _squash(self.input_activation), _squash(self.output_activation)

    @property
    def in_evaluation(self) -> Variant:
        """The same without what training alone drops."""
        return replace(self, recurrent_dropout=0.0, variational_dropout=0.0, weight_dropout=0.0)

    @property
    def cell(self) -> str:
        """The name by which the operators know it: "lstm", and what they compute otherwise."""
        changed = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) != field.default and field.name not in ("weight_dropout", "forget_bias")
        }
        return "lstm" + (json.dumps(changed, sort_keys=True) if changed else "")

    @staticmethod
    @cache
    def of_cell(cell: str) -> Variant | None:
        """The variant of that name; None of a cell that is none, and of the LSTM itself."""
        if not cell.startswith("lstm{"):
            return None
        changed: dict[str, Any] = json.loads(cell.removeprefix("lstm"))
        lists = {name: tuple(value) for name, value in changed.items() if isinstance(value, list)}
        return Variant(**(changed | lists))

    def extras(self, H: int, layer: str = "") -> dict[str, tuple[str, tuple[int, ...]]]:
        """The weights it has besides those of torch's LSTM: by their field of `equations.Weights`, the name of the
        parameter and its shape."""
        doors, sums = len(self.doors) * H, len(self.gates) * H
        seen = {"w_gh": (f"weight_gh{layer}", (doors, doors))} if self.gate_recurrence else {}
        peepholes = {"peepholes": (f"weight_ch{layer}", (doors,))} if self.peepholes else {}
        norms = {
            "norm_ih": (f"norm_ih{layer}", (sums,)), "norm_hh": (f"norm_hh{layer}", (sums,)),
            "norm_c": (f"norm_c{layer}", (H,)), "norm_b": (f"bias_c{layer}", (H,)),
        } if self.layer_norm else {}  # fmt: skip
        return {**seen, **peepholes, **norms}

    @property
    def options(self) -> tuple[float, ...]:
        """All of it as numbers, in the order in which `kernels/variant.hpp` reads them."""
        there = (gate in self.gates for gate in ("i", "f", "o"))
        flags = (*there, self.coupled, self.peepholes, self.gate_recurrence, self.layer_norm)
        squashes = [number for name, *numbers in self.squashes for number in (list(ACTIVATIONS).index(name), *numbers)]
        clips = (math.inf if clip is None else clip for clip in (self.clip, self.cell_clip, self.proj_clip))
        return tuple(float(number) for number in (*flags, *squashes, *clips, *(name in self.noise for name in NOISE)))


def variant_named(name: str) -> Variant:
    """That of `VARIANTS`; ValueError, with the nearest name, for any other."""
    if name not in VARIANTS:
        near = difflib.get_close_matches(name, VARIANTS, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"expected one of {', '.join(VARIANTS)}, got {name!r}{hint}")
    return VARIANTS[name]


NOISE = ("recurrent_dropout", "variational_dropout", "zoneout_cell", "zoneout_hidden")


_RISING = ("leaky-relu", "thresholded-relu", "elu", "affine", "scaled-tanh", "hard-sigmoid")
"""Those whose slope is a function of their value if α is above zero."""


def _squash(activation: Activation) -> Squash:
    name, *given = (activation,) if isinstance(activation, str) else activation
    numbers = [*map(float, given), *ACTIVATIONS[str(name)][len(given) :], 0.0, 0.0]
    return Squash(str(name), *numbers[:2])


def _flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"Variant: {name}: expected True or False, got {value!r}")


def _activation(name: str, value: object) -> None:
    known, *numbers = value if isinstance(value, tuple) and value else (value,)
    named = isinstance(known, str) and known in ACTIVATIONS
    if not named or len(numbers) > len(ACTIVATIONS[known]) or not all(map(_finite, numbers)):
        raise ValueError(
            f"Variant: {name}: expected a name, or a name with its numbers, of {ACTIVATIONS}, got {value!r}"
        )
    if known in _RISING and not _squash(value).alpha > 0:  # type: ignore[arg-type]
        raise ValueError(f"Variant: {name}: expected α above zero, got {value!r}")


def _bound(name: str, value: object) -> None:
    if value is not None and not (_finite(value) and float(value) > 0):  # type: ignore[arg-type]
        raise ValueError(f"Variant: {name}: expected a number above zero, or None, got {value!r}")


def _rate(name: str, value: object) -> None:
    if not (_finite(value) and 0 <= float(value) < 1):  # type: ignore[arg-type]
        raise ValueError(f"Variant: {name}: expected a probability, 0 or more and below 1, got {value!r}")


def _number(name: str, value: object) -> None:
    if value is not None and not _finite(value):
        raise ValueError(f"Variant: {name}: expected a number, or None, got {value!r}")


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30


_CHECKS = {"bool": _flag, "Activation": _activation, "float | None": _bound, "float": _rate}


VARIANTS = MappingProxyType(
    {
        "lstm": Variant(),
        "lstm-1997": Variant(
            forget_gate=False, input_activation=("scaled-tanh", 2.0, 0.5), output_activation=("scaled-tanh", 1.0, 0.5)
        ),
        "peephole": Variant(peepholes=True),
        "no-input-gate": Variant(peepholes=True, input_gate=False),
        "no-forget-gate": Variant(peepholes=True, forget_gate=False),
        "no-output-gate": Variant(peepholes=True, output_gate=False),
        "no-input-activation": Variant(peepholes=True, input_activation="identity"),
        "no-output-activation": Variant(peepholes=True, output_activation="identity"),
        "no-peepholes": Variant(),
        "coupled": Variant(peepholes=True, coupled=True),
        "full-gate-recurrence": Variant(peepholes=True, gate_recurrence=True),
        "layer-norm": Variant(layer_norm=True),
        "projected": Variant(peepholes=True, cell_clip=50.0),
        "recurrent-dropout": Variant(recurrent_dropout=0.25),
        "variational-dropout": Variant(variational_dropout=0.25),
        "zoneout": Variant(zoneout_cell=0.5, zoneout_hidden=0.05),
        "weight-dropout": Variant(weight_dropout=0.5),
        "forget-bias": Variant(forget_bias=1.0),
    }
)
"""The LSTMs of the literature by name; docs/variants.md has the equations and the paper of each."""
