r"""Handwriting recognition: what a line of handwriting says, from the way of the pen or from an image.

The task: of a line, as points of the pen (x, y, pen up) or as columns of pixels, write the characters y_1 … y_U. A
stack of LSTMs in both directions reads a few points, or a column seen by a small convolutional network, at each step,
and connectionist temporal classification finds out by itself which steps are which character (A. Graves et al. 2006,
10.1145/1143844.1143891; A. Graves et al. 2009, 10.1109/TPAMI.2008.137). A beam search can ask a language model too.

    conveyor train handwriting-recognition --data lines.npz
    conveyor evaluate runs/handwriting-recognition/TIME --beam 20
    conveyor predict runs/handwriting-recognition/TIME line.inkml -o line.png

Data: ink as InkML, as IAM-OnDB's XML with a table of texts, or as strokes in .npz; or images of lines with a CSV of the
columns image and text. What names of files or an array `split` say is for training, validation and test is told by
--train-on, --valid-on and --test-on; where nothing says it, shares are drawn from --split-seed. Lines without a text
train nothing.

IAM-OnDB (M. Liwicki & H. Bunke 2005, 10.1109/ICDAR.2005.132), trained on its training set, chosen on v: 5.8 % of the
characters of set f are wrong, without a dictionary, after less than an hour on one core (Graves et al. 2009, with a
dictionary: 11.5; V. Carbune et al. 2020, 10.1007/s10032-020-00350-4: 5.9):

    conveyor train handwriting-recognition --data iam_ondb --epochs 50 --max-minutes 58 \
        --matmul-precision medium --arithmetic bfloat16 --threads 1

Scores: `loss`, nats a character; `cer`, the character error rate by jiwer: characters that are wrong, too many or
missing over all characters, in per cent; `wer`, the same of words; `exact`, the share of lines without any error. While
training, the likeliest character of each step is written; `conveyor evaluate` may search with a beam.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from conveyor.data import ink, lines
from conveyor.data.batches import Batches, pad
from conveyor.data.ink import Ink
from conveyor.data.lines import Line
from conveyor.data.records import BadRecords
from conveyor.data.written import Written
from conveyor.errors import ConveyorError
from conveyor.interchange import modules
from conveyor.interchange.graph import Graph
from conveyor.nn.ctc import Spelled, best_path, ctc_loss
from conveyor.nn.encoder import Encoder
from conveyor.nn.ink import ColumnCNN, InkFeatures
from conveyor.tasks import language_model
from conveyor.training import bundle, files, ink_picture, spelling
from conveyor.training.ink_picture import Read
from conveyor.training.options import (
    Count,
    Depth,
    NotNegative,
    ReadingOptions,
    Share,
    Size,
    TrainingOptions,
    VariantName,
    Whole,
    check,
)
from conveyor.training.scoring import add, numbers
from conveyor.training.task import Data, Model, Outcome, Smoke, Steps, Sums

UNIT = "steps"
ENDINGS: tuple[str, ...] = (".txt", ".csv", ".json", ".png")


@dataclass(kw_only=True)
class Config:
    """Train a reader of handwriting.

    Data: ink (.npz, .inkml, .xml), or images of lines and a CSV. --limit counts lines.
    """

    train_on: tuple[str, ...] = ("train",)
    """The parts to train on, as the data name them."""
    valid_on: tuple[str, ...] = ("v", "valid", "val", "dev")
    """The parts to choose by."""
    test_on: tuple[str, ...] = ("f", "test")
    """The parts to test on."""
    split_seed: Whole = 0
    """Where the data name no parts, those to choose by and to test on are drawn from this."""
    height: Size = 40
    """Pixels that images of lines are brought to, down."""
    stack: Count = 3
    """Points of the pen read at a step."""
    hidden_size: Size = 192
    """Units of a layer and direction."""
    layers: Depth = 3
    """Layers, one upon the other."""
    variant: VariantName = "lstm"
    """Which LSTM: a name in `conveyor.VARIANTS` (docs/variants.md)."""
    dropout: Share = 0.35
    """Share dropped between layers and of the outputs."""
    slant: NotNegative = 0.2
    """How differently slanted training writes its lines again: the deviation of the shear."""
    stretch: NotNegative = 0.1
    """How differently large: the deviation of the scales."""
    tremble: NotNegative = 0.1
    """How far the pen trembles: the deviation, in distances between two points."""
    arithmetic: Literal["float32", "bfloat16"] = "float32"
    """Of training; bfloat16 is faster on processors that have it. Weights, and all scores, are float32."""
    reading: ReadingOptions = field(default_factory=ReadingOptions)
    training: TrainingOptions = field(
        default_factory=lambda: TrainingOptions(
            batch_size=32, epochs=40, learning_rate=0.002, schedule="cosine", average="ema", average_decay=0.998
        )
    )

    def __post_init__(self) -> None:
        check(self)


# Reading


class Batch(NamedTuple):
    """Lines side by side; time goes first."""

    values: Tensor
    """Points [N, B, 4], or columns [W, B, height]."""
    lengths: Tensor
    """[B]"""
    targets: Tensor
    """Characters [B, U]."""
    target_lengths: Tensor
    """[B]"""
    texts: list[str]
    target: Written
    """What makes texts of characters."""


def read(config: Config, facts: dict[str, Any] | None = None) -> Data:
    """Read the lines of each part; the characters are those of the training part, or of `facts`."""
    if not config.reading.data:
        raise ConveyorError("[data] nothing to read; name ink or images of lines with --data")
    bad = BadRecords(config.reading.skip_bad)
    found = [one for one in find(config, config.reading.data, bad) if one.text]
    parts = [part[: config.reading.limit] for part in split(config, found)]
    coder = Coder(config, facts or learn(parts[0]))
    train = coder.batches(parts[0], bad, config.training.seed)
    valid, test = (coder.batches(part, bad) for part in parts[1:])
    counts = " + ".join(f"{len(part.lengths):,}" for part in (train, valid, test))
    summary = f"{counts} lines of {coder.facts['kind']} to train, validate, test; {len(coder.target) - 2} characters"
    return Data(train, valid, test, coder.facts, summary + bad.summary())


def find(config: Config, data: Sequence[str], bad: BadRecords) -> Sequence[Ink | Line]:
    """The lines of files: images of them where there are any, else ink."""
    paths = [Path(path) for path in data]
    return lines.read(paths, config.height, bad) or ink.read(paths, bad)


def read_test(config: Config, facts: dict[str, Any], data: Sequence[str], bad: BadRecords) -> Batches:
    """Other lines: the parts to test on, if the data say so, or all."""
    found = [one for one in find(config, data, bad) if one.text]
    chosen = [one for one in found if one.part in config.test_on]
    return Coder(config, facts).batches(chosen or found, bad)


def split(config: Config, found: Sequence[Ink | Line]) -> list[list[Ink | Line]]:
    """What trains, validates and tests."""
    names = config.train_on, config.valid_on, config.test_on
    parts = [[one for one in found if one.part in name] for name in names]
    rest = parts[0] or [one for one in found if not one.part]
    order = np.random.default_rng(config.split_seed).permutation(len(rest))
    for n, share in ((1, config.reading.valid_share), (2, config.reading.test_share)):
        if not parts[n]:
            count = max(1, round(share * len(rest)))
            parts[n], order = [rest[k] for k in np.sort(order[:count])], order[count:]
    if not len(order):
        raise ConveyorError(f"[data] expected lines with their texts to train on, got {len(found)} in all; give more")
    return [[rest[k] for k in np.sort(order)], *parts[1:]]


def learn(train: Sequence[Ink | Line]) -> dict[str, Any]:
    """The facts: the characters, and whether the lines are ink or images."""
    kind = "ink" if isinstance(train[0], Ink) else "images"
    return {"characters": Written.learn("char", [one.text for one in train], 0).to_json(), "kind": kind}


class Coder:
    """What makes tensors of lines."""

    def __init__(self, config: Config, facts: dict[str, Any]) -> None:
        self.config, self.facts = config, facts
        self.target = Written.from_json(facts.get("characters"))
        if facts.get("kind") not in ("ink", "images"):
            raise ConveyorError("[model] kind: expected ink or images; copy the model's file again")

    def values(self, one: Ink | Line) -> np.ndarray:
        """What the network reads of a line."""
        kind = "ink" if isinstance(one, Ink) else "images"
        if kind != self.facts["kind"]:
            raise ConveyorError(f"[data] {one.where}: expected {self.facts['kind']}, as trained on, got {kind}")
        return ink.even(one.points).astype(np.float32) if isinstance(one, Ink) else one.columns

    def batches(self, found: Sequence[Ink | Line], bad: BadRecords, seed: int | None = None) -> Batches:
        """Batches of lines, of like length; a text that is too long for its line trains nothing, and is a mistake."""
        rows = []
        for one in found:
            with bad.record():
                values, text = self.values(one), self.target.encode(one.text)
                self._check_room(one, len(values), text)
                rows.append((values, text, one.text))
        if not rows:
            raise ConveyorError(f"[data] expected lines with their texts, got none{bad.summary()}")

        def collate(chosen: np.ndarray) -> Batch:
            values, texts, said = zip(*(rows[n] for n in chosen), strict=True)
            return Batch(
                torch.from_numpy(pad(values)),
                torch.tensor([len(one) for one in values]),
                torch.from_numpy(pad(texts).T.copy()),
                torch.tensor([len(one) for one in texts]),
                [*said],
                self.target,
            )

        return Batches([len(values) for values, _, _ in rows], self.config.training.batch_size, collate, seed)

    def _check_room(self, one: Ink | Line, length: int, text: np.ndarray) -> None:
        steps = -(-length // (self.config.stack if self.facts["kind"] == "ink" else 4))
        needed = len(text) + int((text[1:] == text[:-1]).sum())
        if needed > steps:
            raise ConveyorError(
                f"[data] {one.where}: expected a text of its line, got {one.text[:40]!r}, whose characters need "
                f"{needed} steps of its {steps}; mend it, or lower --stack"
            )


# Network and loss


class Network(nn.Module):
    """Features of ink or of an image, a stack of LSTMs in both directions, and a distribution over characters."""

    def __init__(self, config: Config, characters: int, kind: str) -> None:
        super().__init__()
        self.features = (
            InkFeatures(config.stack, ink.APART, config.slant, config.stretch, config.tremble)
            if kind == "ink"
            else ColumnCNN(config.height, config.hidden_size, config.dropout)
        )
        self.encoder = Encoder(self.features.size, config.hidden_size, config.layers, variant=config.variant)
        self.encoder.lstm.dropout = config.dropout if config.layers > 1 else 0.0
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(2 * config.hidden_size, characters)

    def forward(self, values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [T, B, characters], and the steps of each row."""
        features, steps = self.features(values, lengths)
        read, _ = self.encoder(features, steps)
        return self.output(self.dropout(read)), steps


def network(config: Config, facts: dict[str, Any]) -> Network:
    """The untrained network."""
    coder = Coder(config, facts)
    return Network(config, len(coder.target), facts["kind"])


def graph(model: Model) -> Graph:
    """Features of ink, as `InkFeatures` gives them, to logits of the characters."""
    network = modules.expect(model.network, Network)
    modules.expect(network.features, InkFeatures, "images of lines make")
    graph = Graph(features=network.features.size)
    modules.linear(graph, modules.recurrent(graph, 0, network.encoder.lstm), network.output)
    return graph


def loss(config: Config, network: nn.Module, batch: Batch, carried: None) -> Outcome:
    """CTC's nats a character; in validation and test also what is read, and its errors."""
    short = config.arithmetic == "bfloat16" and network.training
    with torch.autocast(batch.values.device.type, torch.bfloat16, enabled=short):
        logits, steps = network(batch.values, batch.lengths)
    nats = ctc_loss(logits.float(), steps, batch.targets, batch.target_lengths).sum()
    count = int(batch.target_lengths.sum())
    sums: Sums = {"nats": nats.detach().double(), "characters": count, "steps": int(steps.sum())}
    if not network.training:
        written = [batch.target.decode(one.tokens) for one in best_path(logits, steps)]
        sums |= spelling.errors(written, batch.texts)
    return Outcome(nats / count, count, sums)


def scores(sums: dict[str, Any]) -> dict[str, float]:
    """Nats a character, error rates of characters and words, lines without any."""
    return {"loss": sums["nats"] / sums["characters"]} | spelling.rates(sums)


# Reading with a beam


@dataclass(kw_only=True)
class EvaluateOptions(spelling.SearchOptions):
    """Score texts found by a beam search."""


@dataclass(kw_only=True)
class PredictOptions(spelling.SearchOptions):
    """Write down what lines say."""


def _search(options: spelling.SearchOptions, target: Written) -> spelling.Search:
    folder = options.language_model
    return spelling.Search(options, target, bundle.read(Path(folder), language_model) if folder else None)


@torch.inference_mode()
def evaluate(model: Model, split: Batches, options: EvaluateOptions) -> dict[str, float]:
    """Scores of texts found by a beam search."""
    model.network.eval()
    total: Sums = {}
    for index in range(len(split)):
        batch = split.batch(0, index)
        logits, steps = model.network(batch.values, batch.lengths)
        read = _search(options, batch.target)(logits, steps)
        sums = loss(model.config, model.network, batch, None).sums
        total = add(total, sums | spelling.errors([batch.target.decode(one.tokens) for one in read], batch.texts))
    return numbers(model.task, total)


# Prediction


@dataclass
class Text:
    """What a line says."""

    name: str
    text: str
    confidence: list[float]
    """Of each character."""
    read: Read

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


class Texts(list[Text]):
    """Those of an input."""

    def __str__(self) -> str:
        return "\n".join(map(str, self))


def predict(model: Model, inputs: Sequence[Any], options: PredictOptions, bad: BadRecords) -> list[Texts]:
    """What the lines of each input say: files or folders of ink or images, or an array of points [N, 3]."""
    coder = Coder(model.config, model.facts)
    search = _search(options, coder.target)
    found = (_read(model, coder, search, _lines(coder, one, bad), bad) for one in inputs)
    return [texts for texts in found if texts]


def _lines(coder: Coder, one: Any, bad: BadRecords) -> Sequence[Ink | Line]:
    if isinstance(one, np.ndarray):
        return [Ink("ink", ink.checked(one, "the points"), "", "", "the points")]
    if not isinstance(one, (str, Path)):
        raise ConveyorError(f"[predict] expected a file of handwriting or points [N, 3], got {one!r:.40}")
    return find(coder.config, [str(one)], bad)


@torch.inference_mode()
def steps(model: Model, input: Any) -> Iterator[Steps]:
    """A line, step by step, with the character that each may end, or none."""
    coder = Coder(model.config, model.facts)
    line, *_ = _lines(coder, input, BadRecords(False, ""))
    values = coder.values(line)
    logits, _ = model.network(torch.from_numpy(values)[:, None], torch.tensor([len(values)]))
    names = ["–", *coder.target.pieces(range(1, len(coder.target)))]
    yield Steps([f"{n} " for n in range(len(logits))], names, lambda: logits[:, 0].softmax(-1))


@torch.inference_mode()
def _read(model: Model, coder: Coder, search: spelling.Search, found: Sequence[Ink | Line], bad: BadRecords) -> Texts:
    """In batches."""
    rows = []
    for one in found:
        with bad.record():
            rows.append((one.name, coder.values(one)))
    texts, size = Texts(), model.config.training.batch_size
    for first in range(0, len(rows), size):
        names, values = zip(*rows[first : first + size], strict=True)
        logits, steps = model.network(torch.from_numpy(pad(values)), torch.tensor([len(one) for one in values]))
        for name, own, spelled in zip(names, values, search(logits, steps), strict=True):
            texts.append(_text(coder, name, own, spelled))
    return texts


def _text(coder: Coder, name: str, values: np.ndarray, spelled: Spelled) -> Text:
    each = coder.config.stack if coder.facts["kind"] == "ink" else 4
    characters = [coder.target.decode([token]) or " " for token in spelled.tokens]
    spans = [(each * first, each * last) for first, last in spelled.spans]
    return Text(name, coder.target.decode(spelled.tokens), spelled.confidence, Read(values, characters, spans))


def save(results: list[Texts], path: Path) -> None:
    """A line a text (.txt), with confidence (.csv), with every character's place too (.json), or a picture (.png)."""
    each = [one for texts in results for one in texts]
    if path.suffix == ".png":
        ink_picture.draw(path, [one.read for one in each[:8]])
    elif path.suffix == ".txt":
        files.write(path, "".join(f"{one.text}\n" for one in each).encode())
    elif path.suffix == ".json":
        described = [
            {
                "name": one.name,
                "text": one.text,
                "characters": [
                    {"character": character, "confidence": round(sure, 4), "from": first, "to": last}
                    for character, sure, (first, last) in zip(
                        one.read.characters, one.confidence, one.read.spans, strict=True
                    )
                ],
            }
            for one in each
        ]
        files.write_json(path, described)
    else:
        table = io.StringIO()
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(["name", "text", "confidence"])
        rows.writerows((one.name, one.text, f"{np.prod(one.confidence or [0.0]):.4f}") for one in each)
        files.write(path, table.getvalue().encode())


@torch.inference_mode()
def show(model: Model, data: Data, folder: Path) -> str:
    """Lines of the test part, what was read in them and what they say."""
    coder, batch = Coder(model.config, model.facts), data.test.batch(0, len(data.test) // 2)
    logits, steps = model.network(batch.values, batch.lengths)
    rows = zip(batch.lengths.tolist(), best_path(logits, steps), strict=True)
    found = [_text(coder, "", batch.values[:length, b].numpy(), one) for b, (length, one) in enumerate(rows)][:6]
    ink_picture.draw(folder / "lines.png", [one.read for one in found])
    table = [f"| `{one.text}` | `{said}` |" for one, said in zip(found, batch.texts, strict=False)]
    return "\n".join(
        ["Lines of the test part:\n", "| read | written |", "|---|---|", *table, "", "![Lines](lines.png)\n"]
    )


def smoke(folder: Path) -> Smoke:
    """Lines of zigzags and arcs, as ink."""
    random = np.random.default_rng(0)
    t = np.linspace(0, 1, 9)
    shapes = {"v": (t, np.abs(2 * t - 1)), "n": (t, -np.abs(2 * t - 1)), "o": (np.cos(6.3 * t), np.sin(6.3 * t))}
    points, ends, texts = [], [0], []
    for _ in range(60):
        texts.append("".join(random.choice([*shapes], 4)))
        for n, name in enumerate(texts[-1]):
            x, y = shapes[name]
            points.append(np.stack([100 * (x + 2 * n), 100 * y, t == 1], 1) + random.normal(0, 2, (9, 3)) * [1, 1, 0])
        ends.append(ends[-1] + 4 * 9)
    lines = np.concatenate(points)
    steps = np.diff(lines[:, :2], axis=0, prepend=lines[:1, :2])
    content = io.BytesIO()
    np.savez(
        content, dx=steps[:, 0], dy=steps[:, 1], eos=lines[:, 2].astype(np.uint8), offsets=np.array(ends),
        text=np.frombuffer("".join(texts).encode(), np.uint8), text_offsets=np.arange(61) * 4,
    )  # fmt: skip
    files.write(folder / "lines.npz", content.getvalue())
    config = Config(
        hidden_size=24, layers=1, dropout=0.0, slant=0.0, stretch=0.0, tremble=0.0, stack=2,
        reading=ReadingOptions(data=(str(folder / "lines.npz"),)),
        training=TrainingOptions(batch_size=8, epochs=5, learning_rate=0.01),
    )  # fmt: skip
    return Smoke(config, (str(folder / "lines.npz"),))
