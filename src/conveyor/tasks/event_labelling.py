r"""Event labelling: what happens at every moment of a video or of a series of measurements.

The task: of a sequence x_1 … x_T give each step its label. LSTMs in both directions read all of it (A. Graves &
J. Schmidhuber 2005, 10.1016/j.neunet.2005.06.042), of a video what a small convolutional network sees of each frame; a
softmax tells the label of each step, and the likeliest labels of all steps, with a cost for each change, make segments.
With --causal the LSTMs run forward alone: a stream is labelled step by step, with the same result.

    conveyor train event-labelling --data tables/ --test-on session7
    conveyor train event-labelling --data videos/ events.csv
    conveyor predict runs/event-labelling/TIME new.csv -o labels.csv

Data: feature tables (CSV) with a row a step and a column of labels, or videos or tables and a CSV of events: video,
start, end, label. With --positions events are named by their place in their video. What to test on is named by
--test-on, or drawn from --split-seed; with --window the tables are cut into windows that overlap by half, and these are
drawn.

Gesture Phase (R. Madeo et al. 2013, 10.1145/2480362.2480373) by the protocol of R. Hasani et al. 2021
(arXiv 2006.04439), windows of 32 steps, which leaks between windows: 75.9 % of the steps are right (an LSTM there:
64.6, liquid networks 69.6). With each video left out once macro-F1 is 38.9 %. On GRID's videos of a mouth, which of six
parts of the sentence is said, or silence, is right in 88.7 % of the frames; 73.7 % by the number of the frame alone:

    conveyor train event-labelling --data grid_s1/videos grid_s1/words.csv --leave-out sil sp --positions command \
        colour preposition letter digit adverb --epochs 25 --hidden-size 128 --matmul-precision medium --threads 1

Scores: `loss`, nats a step; `accuracy`, the share of steps with the right label; `macro_f1`, the mean over labels of
the harmonic mean of precision and recall; `accuracy_prior`, the accuracy of the label that training has most often at
each step, counted from the beginning.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from conveyor.data import events, videos
from conveyor.data.batches import Batches, pad
from conveyor.data.events import Source
from conveyor.data.records import BadRecords
from conveyor.data.written import NOTHING
from conveyor.errors import ConveyorError
from conveyor.interchange import modules
from conveyor.interchange.graph import Graph
from conveyor.nn import LSTM
from conveyor.nn.frames import FrameCNN
from conveyor.nn.segments import smoothed
from conveyor.training import confusion, files, timeline
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
from conveyor.training.scoring import sums_over
from conveyor.training.task import Data, Model, Outcome, Smoke, Steps, Sums

UNIT = "steps"
ENDINGS: tuple[str, ...] = (".csv", ".json", ".png")


@dataclass(kw_only=True)
class Config:
    """Train a labeller.

    Data: feature tables with labels, or videos or tables with a table of events. --limit counts sequences.
    """

    positions: tuple[str, ...] = ()
    """Name the events of each sequence by their place: command colour digit."""
    leave_out: tuple[str, ...] = ()
    """Labels of events that are none: sil sp."""
    test_on: tuple[str, ...] = ()
    """Names of the sequences to test on, without endings."""
    window: Count | None = None
    """Cut tables into windows of so many steps, which overlap by half; the parts are then drawn from windows."""
    split_seed: Whole = 0
    """What validates, and tests if --test-on does not say it, is drawn from this."""
    width: Size = 48
    """Pixels that frames of videos are brought to, across."""
    height: Size = 32
    """And down."""
    hidden_size: Size = 64
    """Units of a layer and direction."""
    layers: Depth = 2
    """Layers, one upon the other."""
    causal: bool = False
    """See nothing of what comes later, so that a stream of measurements can be labelled."""
    variant: VariantName = "lstm"
    """Which LSTM: a name in `conveyor.VARIANTS` (docs/variants.md)."""
    dropout: Share = 0.3
    """Share dropped of what is read, between layers, and of the outputs."""
    noise: NotNegative = 0.0
    """Deviation of noise on measurements in training, in deviations of each."""
    change_cost: NotNegative = 0.0
    """Nats that a change of label costs; larger ones make longer segments."""
    reading: ReadingOptions = field(default_factory=ReadingOptions)
    training: TrainingOptions = field(
        default_factory=lambda: TrainingOptions(
            batch_size=16, epochs=60, learning_rate=0.002, schedule="cosine", average="ema", average_decay=0.99
        )
    )

    def __post_init__(self) -> None:
        check(self, self._conflicts)

    def _conflicts(self) -> Iterator[str]:
        if self.window and self.test_on:
            yield "--window and --test-on: expected one of them"
        if self.causal and self.change_cost:
            yield "--change-cost: smooths labels with what comes later, which --causal does not see"


# Reading


class Batch(NamedTuple):
    """Sequences side by side; time goes first."""

    values: Tensor
    """[T, B, D], or frames [T, B, height, width]."""
    lengths: Tensor
    """[B]"""
    targets: Tensor
    """[T, B]; past a row's end nothing."""
    priors: Tensor
    """The most frequent label at each step [T, B]."""


class Row(NamedTuple):
    """A sequence with its labels."""

    name: str
    values: np.ndarray
    labels: list[str]
    where: str


def read(config: Config, facts: dict[str, Any] | None = None) -> Data:
    """Read the sequences of each part; labels and scales are those of the training part, or of `facts`."""
    reading = config.reading
    if not reading.data:
        raise ConveyorError("[data] nothing to read; name feature tables, or videos and events, with --data")
    bad = BadRecords(reading.skip_bad)
    rows = labelled(config, reading.data, bad)
    parts = [part[: reading.limit] for part in split(config, windows(rows, config.window) if config.window else rows)]
    coder = Coder(config, facts or learn(parts[0]))
    train = coder.batches(parts[0], bad, config.training.seed)
    valid, test = (coder.batches(part, bad) for part in parts[1:])
    counts = " + ".join(f"{len(part.lengths):,}" for part in (train, valid, test))
    steps = sum(len(row.labels) for part in parts for row in part)
    summary = f"{counts} sequences of {steps:,} steps to train, validate, test; {len(coder.classes)} labels"
    return Data(train, valid, test, coder.facts, summary + bad.summary())


def labelled(config: Config, data: Sequence[str], bad: BadRecords) -> list[Row]:
    """The sequences whose labels are told."""
    rows = []
    for source in events.read([Path(path) for path in data], config.positions, config.leave_out, bad):
        if source.labels is None and source.events is None:
            continue
        with bad.record():
            values = _values(config, source)
            rows.append(Row(source.path.stem, values, events.labels_of(source, len(values)) or [], str(source.path)))
    if not rows:
        raise ConveyorError(f"[data] expected sequences with labels or events, got none{bad.summary()}")
    return rows


def _values(config: Config, source: Source) -> np.ndarray:
    return videos.read(source.path, config.width, config.height) if source.features is None else source.features


def windows(rows: Sequence[Row], size: int) -> list[Row]:
    """Windows of the sequences, which overlap by half."""
    found = []
    for row in rows:
        for first in range(0, len(row.labels) - size + 1, max(1, size // 2)):
            own = slice(first, first + size)
            found.append(row._replace(values=row.values[own], labels=row.labels[own]))
    if not found:
        raise ConveyorError(f"[data] expected sequences of {size} steps or more (--window), got shorter ones")
    return found


def split(config: Config, rows: Sequence[Row]) -> list[list[Row]]:
    """What trains, validates and tests: of one permutation first what validates, then what tests."""
    reading = config.reading
    test = [row for row in rows if row.name in config.test_on]
    missing = {*config.test_on} - {row.name for row in test}
    if missing:
        known = ", ".join(sorted({row.name for row in rows})[:9])
        raise ConveyorError(
            f"[data] --test-on: expected names of sequences, got {', '.join(sorted(missing))}; e.g. {known}"
        )
    rest = [row for row in rows if row.name not in config.test_on]
    order = np.random.RandomState(config.split_seed).permutation(len(rest)).tolist()
    count = max(1, int(reading.valid_share * len(rest)))
    valid, order = order[:count], order[count:]
    if not config.test_on:
        count = max(1, int(reading.test_share * len(rest)))
        test, order = [rest[n] for n in order[:count]], order[count:]
    if not order:
        raise ConveyorError(f"[data] expected more sequences to split, got {len(rows)}; give more, or --window")
    return [[rest[n] for n in sorted(order)], [rest[n] for n in sorted(valid)], test]


def read_test(config: Config, facts: dict[str, Any], data: Sequence[str], bad: BadRecords) -> Batches:
    """Other sequences."""
    rows = labelled(config, data, bad)
    return Coder(config, facts).batches(windows(rows, config.window) if config.window else rows, bad)


def learn(train: Sequence[Row]) -> dict[str, Any]:
    """The facts: the labels, the most frequent at each step, and mean and deviation of each measurement."""
    classes = sorted({label for row in train for label in row.labels})
    facts = {"classes": classes, "prior": events.prior([row.labels for row in train])}
    if train[0].values.ndim == 3:
        return facts | {"video": True, "mean": [], "deviation": []}
    values = np.concatenate([row.values for row in train if row.values.shape[1:] == train[0].values.shape[1:]])
    scale = values.std(0).clip(1e-6)
    return facts | {"video": False, "mean": values.mean(0).tolist(), "deviation": scale.tolist()}


class Coder:
    """What makes tensors of sequences."""

    def __init__(self, config: Config, facts: dict[str, Any]) -> None:
        self.config, self.facts = config, facts
        wanted = {"classes": list, "prior": list, "video": bool, "mean": list, "deviation": list}
        if any(not isinstance(facts.get(name), kind) for name, kind in wanted.items()) or not facts["classes"]:
            raise ConveyorError(f"[model] {', '.join(wanted)}: expected all of them; copy the model's file again")
        self.classes: list[str] = facts["classes"]
        self.numbers = {name: number for number, name in enumerate(self.classes)}
        self.mean, self.deviation = (np.array(facts[name], np.float32) for name in ("mean", "deviation"))

    def scaled(self, values: np.ndarray, where: str) -> np.ndarray:
        """Measurements with mean 0 and deviation 1 over the training part, or frames as they are."""
        shape = (self.config.height, self.config.width) if self.facts["video"] else (len(self.mean),)
        if values.shape[1:] != shape or not len(values):
            raise ConveyorError(
                f"[data] {where}: expected steps of {[*shape]} values, as trained on, got {[*values.shape[1:]]}"
            )
        return values if self.facts["video"] else (values - self.mean) / self.deviation

    def batches(self, rows: Sequence[Row], bad: BadRecords, seed: int | None = None) -> Batches:
        """Batches of sequences, of like length."""
        good = []
        for row in rows:
            with bad.record():
                unknown = sorted({*row.labels} - self.numbers.keys())
                if unknown:
                    raise ConveyorError(
                        f"[data] {row.where}: expected labels that training has, {', '.join(self.classes)}, got "
                        f"{', '.join(unknown)}; mend them"
                    )
                good.append(
                    (self.scaled(row.values, row.where), np.array([self.numbers[label] for label in row.labels]))
                )
        if not good:
            raise ConveyorError(f"[data] expected sequences with labels, got none{bad.summary()}")
        priors = np.array([self.numbers[label] for label in self.facts["prior"]])

        def collate(chosen: np.ndarray) -> Batch:
            values, targets = zip(*(good[n] for n in chosen), strict=True)
            longest = len(values[0])
            prior = priors[np.minimum(np.arange(longest), len(priors) - 1)]
            return Batch(
                torch.from_numpy(pad(values)),
                torch.tensor([len(one) for one in values]),
                torch.from_numpy(pad(targets, NOTHING)),
                torch.from_numpy(prior)[:, None].expand(-1, len(values)),
            )

        return Batches([len(targets) for _, targets in good], self.config.training.batch_size, collate, seed)


# Network and loss

State = tuple[Tensor, Tensor]


class Network(nn.Module):
    """What is seen of each step, a stack of LSTMs, and a distribution over labels at every step."""

    def __init__(self, config: Config, coder: Coder) -> None:
        super().__init__()
        H, D = config.hidden_size, len(coder.mean)
        if coder.facts["video"]:
            D = 2 * H
        self.frames = FrameCNN(config.height, config.width, D, config.dropout) if coder.facts["video"] else None
        self.noise = config.noise
        between = config.dropout if config.layers > 1 else 0.0
        self.lstm = LSTM(D, H, config.layers, dropout=between, bidirectional=not config.causal, variant=config.variant)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear((2 - config.causal) * H, len(coder.classes))

    def forward(self, values: Tensor, lengths: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Logits [T, B, K], and the state to go on with."""
        x = values if self.frames is None else self.frames(values, lengths)
        if self.training and self.noise and self.frames is None:
            x = x + self.noise * torch.randn_like(x)
        read, state = self.lstm(self.dropout(x), state, lengths=lengths)
        return self.output(self.dropout(read)), state


def network(config: Config, facts: dict[str, Any]) -> Network:
    """The untrained network."""
    return Network(config, Coder(config, facts))


def graph(model: Model) -> Graph:
    """Steps of a table, as they are in the file, to logits of the labels."""
    network, coder = modules.expect(model.network, Network), Coder(model.config, model.facts)
    if network.frames is not None:
        raise ConveyorError("[export] expected a run on tables: there are no nodes for the convolutions over frames")
    graph = Graph(features=len(coder.mean))
    x = graph.scale(0, 1 / coder.deviation, -coder.mean / coder.deviation)
    modules.linear(graph, modules.recurrent(graph, x, network.lstm), network.output)
    return graph


def loss(config: Config, network: nn.Module, batch: Batch, carried: None) -> Outcome:
    """Cross-entropy of all steps; in validation and test also the confusion of labels."""
    logits, _ = network(batch.values, batch.lengths)
    count = int(batch.lengths.sum())
    mean = cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
    sums: Sums = {"nats": mean.detach().double() * count, "steps": count}
    if not network.training:
        there = batch.targets != NOTHING
        given = torch.full_like(batch.targets, NOTHING)
        for b, length in enumerate(batch.lengths.tolist()):
            given[:length, b] = torch.from_numpy(_labels(config, logits[:length, b]))
        K = logits.shape[-1]
        pairs = batch.targets[there] * K + given[there]
        sums["confusion"] = torch.bincount(pairs, minlength=K * K).view(K, K).double()
        sums["prior_right"] = int((batch.priors == batch.targets)[there].sum())
    return Outcome(mean, count, sums)


def _labels(config: Config, logits: Tensor) -> np.ndarray:
    """The label of each step of [T, K]."""
    return smoothed(logits.detach().log_softmax(-1).numpy(), config.change_cost)


def scores(sums: dict[str, Any]) -> dict[str, float]:
    """Nats a step, accuracy, mean F1 of the labels, and the accuracy of the prior."""
    found = {"loss": sums["nats"] / sums["steps"]}
    if "confusion" in sums:
        matrix = np.asarray(sums["confusion"])
        found |= {"accuracy": confusion.accuracy(matrix), "macro_f1": float(np.nanmean(confusion.f1(matrix)))}
        found["accuracy_prior"] = sums["prior_right"] / sums["steps"]
    return found


# Prediction


@dataclass(kw_only=True)
class PredictOptions:
    """Label every step of tables or videos."""

    stream: bool = False
    """Label step by step, as measurements come in; of a --causal model."""

    def __post_init__(self) -> None:
        check(self)


class Watcher:
    """A causal model that labels a stream: `see` takes one step's measurements and gives its label."""

    def __init__(self, model: Model) -> None:
        if not model.config.causal or model.facts["video"]:
            raise ConveyorError(
                "[predict] a stream: expected a model of measurements trained with --causal, got another"
            )
        self.model, self.coder = model, Coder(model.config, model.facts)
        self.state: State | None = None

    def see(self, values: np.ndarray) -> str:
        """The label of the next step, of its values [D]."""
        return self.coder.classes[int(self.log_p(values).argmax())]

    @torch.inference_mode()
    def log_p(self, values: np.ndarray) -> np.ndarray:
        """The log probability of each label [K]."""
        x = torch.from_numpy(self.coder.scaled(values[None].astype(np.float32), "the step"))[:, None]
        logits, self.state = self.model.network(x, torch.tensor([1]), self.state)
        found: np.ndarray = logits[0, 0].log_softmax(-1).numpy()
        return found


@dataclass
class Labels:
    """The labels of a sequence."""

    name: str
    labels: list[str]
    sure: np.ndarray
    """The probability of each [T]."""
    frames: np.ndarray | None
    """Of a video [T, height, width]."""
    classes: list[str]

    @property
    def segments(self) -> list[tuple[int, int, str]]:
        """Stretches of one label."""
        return events.segments(self.labels)

    def __str__(self) -> str:
        return f"{self.name}: " + ", ".join(f"{label} {first}-{last}" for first, last, label in self.segments)


class All(list[Labels]):
    """Those of an input."""

    def __str__(self) -> str:
        return "\n".join(map(str, self))


def predict(model: Model, inputs: Sequence[Any], options: PredictOptions, bad: BadRecords) -> list[All]:
    """The labels of each input: a table, a video, a folder of them, or values [T, D]."""
    coder = Coder(model.config, model.facts)
    found = []
    for one in inputs:
        labels = All()
        for name, values in _inputs(model.config, one, bad):
            with bad.record():
                labels.append(_label(model, coder, options, name, values))
        found += [labels] if labels else []
    return found


def _inputs(config: Config, one: Any, bad: BadRecords) -> list[tuple[str, np.ndarray]]:
    if isinstance(one, np.ndarray):
        return [("the values", one)]
    if not isinstance(one, (str, Path)):
        raise ConveyorError(f"[predict] expected a table, a video, a folder, or values [T, D], got {one!r:.40}")
    found = []
    for source in events.read([Path(one)], (), (), bad):
        with bad.record():
            found.append((source.path.name, _values(config, source)))
    return found


@torch.inference_mode()
def steps(model: Model, input: Any) -> Iterator[Steps]:
    """A table or a video, frame by frame, with the label of each."""
    coder = Coder(model.config, model.facts)
    [(name, values), *_] = _inputs(model.config, input, BadRecords(False, ""))
    scaled = coder.scaled(values, name)
    logits, _ = model.network(torch.from_numpy(scaled)[:, None], torch.tensor([len(scaled)]))
    yield Steps([f"{n} " for n in range(len(scaled))], coder.classes, lambda: logits[:, 0].softmax(-1))


@torch.inference_mode()
def _label(model: Model, coder: Coder, options: PredictOptions, name: str, values: np.ndarray) -> Labels:
    scaled = coder.scaled(values, name)
    if options.stream:
        watcher = Watcher(model)
        log_p = np.stack([watcher.log_p(step) for step in values])
    else:
        logits, _ = model.network(torch.from_numpy(scaled)[:, None], torch.tensor([len(scaled)]))
        log_p = logits[:, 0].log_softmax(-1).numpy()
    labels = smoothed(log_p, model.config.change_cost)
    sure = np.exp(log_p[np.arange(len(labels)), labels])
    names = [coder.classes[number] for number in labels]
    return Labels(name, names, sure, values if coder.facts["video"] else None, coder.classes)


def save(results: list[All], path: Path) -> None:
    """A row a step (.csv) and beside it a row a segment (.segments.csv), both (.json), or the first drawn (.png)."""
    each = [one for labels in results for one in labels]
    if path.suffix == ".png":
        timeline.draw(path, [("predicted", each[0].labels)], each[0].classes, each[0].frames)
    elif path.suffix == ".json":
        described = [
            {
                "name": one.name,
                "labels": one.labels,
                "probabilities": one.sure.round(4).tolist(),
                "segments": [{"start": a, "end": b, "label": label} for a, b, label in one.segments],
            }
            for one in each
        ]
        files.write_json(path, described)
    else:
        steps = [
            (one.name, t, *row) for one in each for t, row in enumerate(zip(one.labels, one.sure.round(4), strict=True))
        ]
        files.write(path, _table(["file", "step", "label", "probability"], steps))
        parts = [(one.name, *segment) for one in each for segment in one.segments]
        files.write(path.with_suffix(".segments.csv"), _table(["file", "start", "end", "label"], parts))


def _table(head: list[str], rows: Sequence[Sequence[object]]) -> bytes:
    content = io.StringIO()
    table = csv.writer(content, lineterminator="\n")
    table.writerow(head)
    table.writerows(rows)
    return content.getvalue().encode()


def show(model: Model, data: Data, folder: Path) -> str:
    """The confusion of labels in the test part, and one of its sequences over time."""
    coder, matrix = (
        Coder(model.config, model.facts),
        np.asarray(sums_over(model.task, model.config, model.network, data.test)["confusion"]),
    )
    confusion.draw(folder / "confusion.png", matrix, coder.classes)
    batch = data.test.batch(0, 0)
    length = int(batch.lengths[0])
    with torch.inference_mode():
        logits, _ = model.network.eval()(batch.values[:, :1], batch.lengths[:1])
    given, true = _labels(model.config, logits[:length, 0]), batch.targets[:length, 0]
    tracks = [(name, [coder.classes[n] for n in numbers]) for name, numbers in (("true", true), ("predicted", given))]
    timeline.draw(
        folder / "timeline.png",
        tracks,
        coder.classes,
        batch.values[:length, 0].numpy() if coder.facts["video"] else None,
    )
    table = confusion.table(matrix, coder.classes).replace("sequences", "steps")
    return f"The test part:\n\n![Confusion matrix](confusion.png)\n\n{table}\n\n![A sequence of it](timeline.png)\n"


def smoke(folder: Path) -> Smoke:
    """Measurements that are high, low, or noise."""
    random = np.random.default_rng(0)
    for n in range(12):
        names = random.choice(["high", "low", "noise"], 6)
        rows = ["a,b,label"]
        for name in names:
            level = {"high": 1.0, "low": -1.0, "noise": 0.0}[name]
            rows += [
                f"{a:.3f},{b:.3f},{name}" for a, b in random.normal([level, -level], 0.4, (random.integers(5, 12), 2))
            ]
        files.write(folder / f"{n:02}.csv", ("\n".join(rows) + "\n").encode())
    config = Config(
        hidden_size=8, layers=1, dropout=0.0, change_cost=1.0, reading=ReadingOptions(data=(str(folder),)),
        training=TrainingOptions(batch_size=4, epochs=5, learning_rate=0.01),
    )  # fmt: skip
    return Smoke(config, (str(folder / "00.csv"),))
