"""Options: dataclasses whose fields say type, range, default and help; and the common ones of every training.

An option exists once, as a field. The command line, the config file and the checks all come from it:

    @dataclass(kw_only=True)
    class Config:
        hidden_size: Count = 256
        \"\"\"Units in a layer.\"\"\"

        def __post_init__(self) -> None:
            check(self)
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from itertools import chain
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from conveyor.errors import ConveyorError
from conveyor.variant import VARIANTS

T = TypeVar("T")


@dataclass(frozen=True)
class Range:
    """The values a number may take, and how to say so."""

    words: str
    low: float
    high: float = sys.float_info.max
    open: bool = False
    """Whether the bounds themselves are outside."""

    def __contains__(self, value: float) -> bool:
        return self.low < value < self.high if self.open else self.low <= value <= self.high


@dataclass(frozen=True)
class Names:
    """The names a text may be one of."""

    known: tuple[str, ...]

    @property
    def words(self) -> str:
        """How to say so."""
        return f"one of {', '.join(self.known)}"

    def __contains__(self, name: str) -> bool:
        return name in self.known


Count = Annotated[int, Range("a whole number, 1 or more", 1)]
Size = Annotated[int, Range("a whole number from 1 to 1,000,000", 1, 1_000_000)]
"""How many numbers stand side by side: beyond this no memory holds a layer, and its description is damaged."""
Depth = Annotated[int, Range("a whole number from 1 to 1,000", 1, 1_000)]
"""How many layers stand upon each other."""
Whole = Annotated[int, Range("a whole number, 0 or more", 0)]
Number = Annotated[float, Range("a number", -sys.float_info.max)]
Positive = Annotated[float, Range("a number above 0", 0, open=True)]
NotNegative = Annotated[float, Range("a number, 0 or more", 0)]
VariantName = Annotated[str, Names(tuple(VARIANTS))]
"""Which LSTM."""
Share = Annotated[float, Range("a number from 0 to below 1", 0, math.nextafter(1, 0))]


@dataclass(kw_only=True)
class ReadingOptions:
    """What to read: the same for every task."""

    data: tuple[str, ...] = ()
    """Files or folders in the formats the task reads, or the name of a public set (`conveyor data` lists them)."""
    valid_share: Share = 0.1
    """Share of the data to choose by, where the data do not say it themselves."""
    test_share: Share = 0.1
    """Share of the data to test on, where the data do not say it themselves."""
    limit: Count | None = None
    """Read only so many records of each part, for a quick look."""
    skip_bad: bool = False
    """Leave out records that are wrong, and count them, where otherwise the first ends the reading."""

    def conflicts(self) -> Iterator[str]:
        """What `check` asks of options within others."""
        if self.valid_share + self.test_share >= 1:
            yield "--valid-share and --test-share: expected less than 1 together"


@dataclass(kw_only=True)
class TrainingOptions:
    """How to train: the same for every task."""

    batch_size: Count = 32
    """Sequences read side by side."""
    epochs: Count = 20
    """Passes over the training data."""
    max_steps: Count | None = None
    """Stop after this many updates of the weights."""
    max_minutes: Positive | None = None
    """Stop training after this much time; what is under way is finished, and the test part scored."""
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop"] = "adamw"
    """How gradients become updates."""
    learning_rate: Positive = 0.002
    """The size of an update, before any schedule."""
    momentum: Share = 0.0
    """Momentum of sgd and rmsprop."""
    smoothing: Share = 0.99
    """Share of the old in rmsprop's mean of squared gradients."""
    weight_decay: NotNegative = 0.0
    """How strongly weights are drawn to zero."""
    schedule: Literal["constant", "decay", "cosine", "plateau"] = "constant"
    """The learning rate's course: decay multiplies it by --decay-factor for each epoch after --decay-after; cosine
    takes it to zero at the last step; plateau multiplies it by --decay-factor whenever validation got no better."""
    decay_factor: Positive = 0.5
    """What decay and plateau multiply by."""
    decay_after: Whole = 4
    """Epochs before decay begins."""
    clip_norm: Positive | None = 5.0
    """Scale the gradient down to this norm if it is larger."""
    validate_every: Count | None = None
    """Validate also after every so many steps, not at each epoch's end alone."""
    patience: Count | None = None
    """Stop after this many validations in a row that got no better."""
    average: Literal["none", "ema", "trigger"] = "none"
    """Validate and keep a mean of the weights: ema, in which old weights count less and less; trigger, of all steps
    since validation got no better for --average-patience times (Merity et al. 2018)."""
    average_decay: Share = 0.999
    """Share of the old in the mean of ema."""
    average_patience: Count = 5
    """Validations without progress before the mean of trigger begins."""
    seed: Whole = 1
    """Start of all random numbers."""
    seeds: Count = 1
    """Train so many times, from this seed and those after it: mean and spread of the scores, and, where the task can
    put several networks together, the ensemble."""
    threads: Count | None = None
    """Processor threads; as torch chooses if not given."""
    matmul_precision: Literal["highest", "medium"] = "highest"
    """How exactly linear and convolutional layers multiply on the processor while training: in float32, or with medium
    in bfloat16 where the processor has units for it, several times faster. LSTM layers are not affected."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "cpu"
    """Where to compute."""
    devices: Count = 1
    """Processes that share each batch on this machine; for several machines see the guide on torchrun."""
    log_every: Count = 50
    """Steps between two lines of metrics."""
    save_minutes: Positive = 2.0
    """Minutes between two checkpoints; each epoch begins with one too."""
    save_steps: Count | None = None
    """Steps between two checkpoints, besides."""


def check(options: Any, conflicts: Callable[[], Iterable[str]] = tuple) -> None:
    """Raise one error that names every option out of its type or range; where all are in it, every conflict of them."""
    parts = [getattr(options, field.name) for field in fields(options)]
    within = (part.conflicts() for part in parts if hasattr(part, "conflicts"))
    found = [*_mistakes(options)] or [*chain.from_iterable(within), *conflicts()]
    if found:
        raise ConveyorError(f"[options] {'; '.join(found)}")


def flag(name: str) -> str:
    """How the command line spells a field."""
    return f"--{name.replace('_', '-')}"


def flat(options: Any) -> Iterator[tuple[str, Any]]:
    """Names and values of the fields of a dataclass, and of the dataclasses in it."""
    for field in fields(options):
        value = getattr(options, field.name)
        yield from flat(value) if is_dataclass(value) else [(field.name, value)]


def nearest(name: str, known: list[str]) -> str:
    """ "; did you mean X?" for the known name most like `name`, or nothing."""
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""


def from_json(cls: type[T], values: Any, where: str) -> T:
    """A dataclass from what `dataclasses.asdict` and JSON made of it; fields that are not there keep their defaults."""
    if not isinstance(values, dict):
        raise ConveyorError(f"[options] {where}: expected an object with options, got {type(values).__name__}")
    hints = get_type_hints(cls)
    for name in values:
        if name not in hints:
            known = nearest(name, list(hints)) or f"; expected one of: {', '.join(hints) or 'none'}"
            raise ConveyorError(f"[options] {where}: unknown option {name!r}{known}")
    return cls(**{name: _from_json(hints[name], value, f"{where}, {name}") for name, value in values.items()})


def _from_json(hint: Any, value: Any, where: str) -> Any:
    if is_dataclass(hint) and isinstance(hint, type):
        return from_json(hint, value, where)
    return tuple(value) if isinstance(value, list) else value


def _mistakes(options: Any) -> Iterator[str]:
    hints = get_type_hints(type(options), include_extras=True)
    for field in fields(options):
        value = getattr(options, field.name)
        if is_dataclass(value):
            yield from _mistakes(value)
        elif not fits(value, hints[field.name]):
            expected = _words(hints[field.name])
            yield f"{flag(field.name)}: expected {expected}, got {value!r}{_nearest_name(value, hints[field.name])}"


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of the type, and in the range, that an annotation says."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return fits(value, parts[0]) and value in parts[1]
    if origin in (Union, UnionType):
        return any(fits(value, part) for part in parts)
    if origin is Literal:
        return value in parts
    if origin is tuple:
        return isinstance(value, tuple) and all(fits(item, parts[0]) for item in value)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def _nearest_name(value: Any, hint: Any) -> str:
    """What `nearest` says of a text where an annotation names those it may be."""
    parts = get_args(hint)
    known = (
        parts if get_origin(hint) is Literal else next((part.known for part in parts if isinstance(part, Names)), ())
    )
    return nearest(value, list(known)) if isinstance(value, str) else ""


def _words(hint: Any) -> str:
    """What an annotation expects, in words."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return str(parts[1].words)
    if origin in (Union, UnionType):
        return " or ".join(map(_words, parts))
    if origin is Literal:
        return "one of " + ", ".join(parts)
    if origin is tuple:
        return f"a list, each {_words(parts[0])}"
    return {NoneType: "None", bool: "true or false", str: "a text"}.get(hint, f"a {hint.__name__}")
