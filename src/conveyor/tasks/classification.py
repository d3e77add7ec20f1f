"""Classification: the class of a sequence, from measurements of one or many channels, or from a text.

The task: a sequence x_1 … x_T of any length has one of K classes; give each its probability. An LSTM in both directions
reads the sequence (A. Graves & J. Schmidhuber 2005, 10.1016/j.neunet.2005.06.042), its outputs are pooled over time
(mean, max, last, or attention as in Z. Yang et al. 2016, 10.18653/v1/N16-1174), and a softmax tells the class.

    conveyor train classification --data measurements.csv
    conveyor evaluate runs/classification/TIME
    conveyor predict runs/classification/TIME new.csv -o classes.csv

Data: `.ts` files of sktime and aeon; CSV, TSV or Parquet with a row a step (id, step, label, and a column a channel) or
a row a text (text, label). Files named …train, …valid, …test say what is what; all else is split class by class.

Japanese Vowels, 9 speakers told by two vowels, split as by Kudo et al. 1999 into 270 to train and 370 to test (accuracy
0.978 over 5 seeds, 25 seconds each; dynamic time warping has 0.949):

    conveyor train classification --data japanese_vowels --valid-share 0 --noise 0.6 --dropout-input 0.2
        --dropout-output 0.5 --batch-size 16 --epochs 40 --learning-rate 0.008 --schedule cosine

Its options were chosen by 5-fold cross-validation within the 270, so that nothing is set aside in the end and all of
them train; with a tenth set aside to choose the epoch by, it is 0.977. The five networks as one reach 0.984.

Scores: `loss`, cross-entropy in nats a sequence; `accuracy`; `macro_f1`, the mean over classes of 2 TP / (2 TP + FP +
FN), where a class that neither occurs nor is predicted does not count.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from conveyor.data import labelled
from conveyor.data.batches import Batches
from conveyor.data.encoding import Batch, Encoder, learn
from conveyor.data.labelled import Parts, Reader
from conveyor.data.records import BadRecords
from conveyor.data.sequences import Columns, Record
from conveyor.errors import ConveyorError
from conveyor.interchange import modules
from conveyor.interchange.graph import Graph
from conveyor.nn import LSTM
from conveyor.nn.pooling import Pooling
from conveyor.training import confusion, files
from conveyor.training.options import (
    Count,
    Depth,
    NotNegative,
    Number,
    ReadingOptions,
    Share,
    Size,
    TrainingOptions,
    VariantName,
    check,
)
from conveyor.training.scoring import sums_over
from conveyor.training.task import Data, Model, Outcome, Smoke, Steps, Sums
from conveyor.variant import variant_named

UNIT = "sequences"
ENDINGS: tuple[str, ...] = (".csv", ".tsv", ".parquet", ".json")


@dataclass(kw_only=True)
class Config:
    """Train a classifier of sequences.

    Data: .ts files; tables (CSV, TSV, Parquet) with a row a step, or with a row a text; folders of these. Names that
    end in train, valid, test say what is what; anything else is split, class by class. With --valid-share 0 all of the
    training part trains, and its own loss chooses. --limit counts sequences.
    """

    id_column: str = "id"
    """The column that tells which sequence a row belongs to."""
    step_column: str = "step"
    """The column that a sequence's rows are sorted by; if there is none, they stay in order."""
    label_column: str = "label"
    """The column with the class."""
    text_column: str = "text"
    """The column with the text, in a table of texts."""
    channels: tuple[str, ...] = ()
    """The columns of measurements; all others if not given."""
    missing: Literal["refuse", "fill"] = "refuse"
    """A missing value: a mistake, or filled with the one before it."""
    longest: Count | None = None
    """Read only so many steps of a sequence, from its beginning."""
    scaling: Literal["channel", "sequence", "none"] = "channel"
    """Bring each channel to mean 0 and deviation 1: over the training part, over each sequence, or not at all."""
    tokens: Literal["char", "word", "bpe"] = "word"
    """What a text is read as."""
    vocabulary: Count = 10_000
    """Most words or pieces told apart."""
    embedding_size: Size = 64
    """Numbers that stand for a token."""
    hidden_size: Size = 64
    """Units in a layer and direction."""
    layers: Depth = 1
    """Layers, one upon the other."""
    bidirectional: bool = True
    """Read from both ends."""
    variant: VariantName = "lstm"
    """Which LSTM: a name in `conveyor.VARIANTS` (docs/variants.md)."""
    forget_bias: Number | None = 1.0
    """Bias of the forget gates at the start, where there are some; None leaves it as drawn, or to the variant."""
    pooling: Literal["mean", "max", "last", "attention"] = "max"
    """What becomes of the outputs of all steps."""
    noise: NotNegative = 0.0
    """Deviation of the noise that training adds to what a step reads."""
    dropout_input: Share = 0.0
    """Share of what a step reads dropped."""
    dropout_between: Share = 0.0
    """Share dropped between layers."""
    dropout_output: Share = 0.5
    """Share of the pooled outputs dropped."""
    label_smoothing: Share = 0.0
    """Share of the probability that training spreads over all classes."""
    reading: ReadingOptions = field(default_factory=ReadingOptions)
    training: TrainingOptions = field(
        default_factory=lambda: TrainingOptions(batch_size=16, epochs=40, learning_rate=0.005, schedule="cosine")
    )

    def __post_init__(self) -> None:
        check(self, self._conflicts)

    def _conflicts(self) -> Iterator[str]:
        if self.vocabulary < {"word": 3, "bpe": 256}.get(self.tokens, 1):
            yield f"--vocabulary: too small for --tokens {self.tokens}, got {self.vocabulary}"

    def reader(self, bad: BadRecords, channels: Sequence[str] = ()) -> Reader:
        """How files are read; with names of channels those, in that order."""
        chosen = tuple(channels) if all(channels) and channels else self.channels
        columns = Columns(self.id_column, self.step_column, self.label_column, self.text_column, chosen)
        return Reader(columns, bad, self.missing == "fill")


# Reading


def read(config: Config, facts: dict[str, Any] | None = None) -> Data:
    """Read and split the sequences; classes, scales and vocabulary are those of the training part, or of `facts`."""
    reading = config.reading
    if not reading.data:
        raise ConveyorError("[data] nothing to read; name files with --data")
    reader = config.reader(BadRecords(reading.skip_bad))
    parts = reader.read_parts([Path(path) for path in reading.data])
    split, classes = reader.split(parts, reading.valid_share, reading.test_share)
    split = Parts(*(labelled.some(part, reading.limit) for part in split))
    digest = labelled.digest(split)
    if facts is None:
        kind, channels = parts["train"].kind, parts["train"].channels
        learned = learn(split.train, kind, channels, config.tokens, config.vocabulary)
        facts = {"classes": classes, "sha256": digest} | learned
    elif facts.get("sha256") != digest:
        raise ConveyorError("[data] these are not the data this run was trained on; restore them, or start a new run")
    encoder, size = encoder_of(config, facts), config.training.batch_size
    train = encoder.batches(split.train, size, config.training.seed)
    valid, test = (encoder.batches(part, size) for part in (split.valid or split.train, split.test))
    counts = " + ".join(f"{len(part):,}" for part in split)
    T = train.lengths
    summary = f"{counts} sequences of {T.min():,} to {T.max():,} steps to train, validate, test; {len(classes)} classes"
    return Data(train, valid, test, facts, summary + reader.bad.summary())


def read_test(config: Config, facts: dict[str, Any], data: Sequence[str], bad: BadRecords) -> Batches:
    """Other data, or the test part of files that say what is what."""
    encoder = encoder_of(config, facts)
    reader = config.reader(bad, encoder.channels)
    parts = labelled.find([Path(path) for path in data])
    found = encoder.fitting(reader.read(parts.get("test", parts["train"])))
    return encoder.batches(reader.with_labels(found, encoder.classes), config.training.batch_size)


def encoder_of(config: Config, facts: dict[str, Any]) -> Encoder:
    """What makes arrays of sequences."""
    return Encoder(facts, config.scaling, config.longest)


# Network and loss


class Network(nn.Module):
    """Embedding or noise, stacked LSTM, pooling over time, and a softmax over the classes; time goes first."""

    def __init__(self, config: Config, kind: str, width: int, classes: int) -> None:
        super().__init__()
        self.noise = config.noise
        self.embedding = nn.Embedding(width, config.embedding_size) if kind == "text" else None
        bias = config.forget_bias if "f" in variant_named(config.variant).gates else None
        self.lstm = LSTM(
            config.embedding_size if kind == "text" else width,
            config.hidden_size,
            config.layers,
            dropout=config.dropout_between if config.layers > 1 else 0.0,
            bidirectional=config.bidirectional,
            variant=config.variant,
            forget_bias=bias,
        )
        D = config.hidden_size * (2 if config.bidirectional else 1)
        self.pooling = Pooling(config.pooling, D)
        self.output = nn.Linear(D, classes)
        self.dropout_input = nn.Dropout(config.dropout_input)
        self.dropout_output = nn.Dropout(config.dropout_output)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Values [T, B, C] or tokens [T, B], and lengths [B], to logits [B, K]."""
        x = inputs if self.embedding is None else self.embedding(inputs)
        if self.training and self.noise:
            x = x + self.noise * torch.randn_like(x)
        hidden, (last, _) = self.lstm(self.dropout_input(x), lengths=lengths)
        logits: Tensor = self.output(self.dropout_output(self.pooling(hidden, last, lengths)))
        return logits


def graph(model: Model) -> Graph:
    """Tokens, or values as they are in the file, to logits of the classes by all steps so far."""
    network, encoder = modules.expect(model.network, Network), encoder_of(model.config, model.facts)
    graph = Graph(tokens=encoder.width) if encoder.kind == "text" else Graph(features=encoder.width)
    if network.embedding is not None:
        x = modules.embedding(graph, network.embedding)
    elif encoder.scaling == "channel":
        mean, deviation = (np.asarray(one, np.float32) for one in (encoder.mean, encoder.deviation))
        x = graph.scale(0, 1 / deviation, -mean / deviation)
    else:
        x = 0  # scaled by the sequence's own mean and deviation, or not at all, by whoever gives it
    x, kind = modules.recurrent(graph, x, network.lstm), network.pooling.kind
    if kind == "attention":
        raise ConveyorError(
            "[export] expected a run with --pooling mean, max or last: there are no nodes for attention"
        )
    if kind != "last" or network.lstm.bidirectional:
        x = graph.pool(x, "ends" if kind == "last" else kind)
    modules.linear(graph, x, network.output)
    return graph


class Ensemble(nn.Module):
    """Several networks as one: the mean of their probabilities."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """As one network, to log-probabilities [B, K]."""
        each = torch.stack([network(inputs, lengths).log_softmax(1) for network in self.networks])
        return each.logsumexp(0) - math.log(len(self.networks))


def network(config: Config, facts: dict[str, Any]) -> Network:
    """The untrained network."""
    encoder = encoder_of(config, facts)
    return Network(config, encoder.kind, encoder.width, len(encoder.classes))


def ensemble(networks: Sequence[nn.Module]) -> nn.Module:
    """Several trained networks as one."""
    return Ensemble(networks)


def loss(config: Config, network: nn.Module, batch: Batch, carried: None) -> Outcome:
    """Cross-entropy of a batch, in training with smoothed labels, and what was taken for what."""
    logits = network(batch.inputs, batch.lengths)
    K, B = logits.shape[1], len(batch.labels)
    smoothing = config.label_smoothing if network.training else 0.0
    taken = torch.bincount(batch.labels * K + logits.detach().argmax(1), minlength=K * K).view(K, K)
    nats = cross_entropy(logits.detach().double(), batch.labels, reduction="sum")
    sums: Sums = {"nats": nats, "sequences": B, "confusion": taken}
    return Outcome(cross_entropy(logits, batch.labels, label_smoothing=smoothing), B, sums)


def scores(sums: dict[str, Any]) -> dict[str, float]:
    """Nats a sequence, accuracy, macro F1."""
    matrix = sums["confusion"].cpu().numpy()
    return {
        "loss": sums["nats"] / sums["sequences"],
        "accuracy": confusion.accuracy(matrix),
        "macro_f1": float(np.nanmean(confusion.f1(matrix))),
    }


# Prediction


@dataclass(kw_only=True)
class PredictOptions:
    """Tell classes: of the sequences of files, or of texts."""

    show: Count = 3
    """How many of the likeliest classes to print."""

    def __post_init__(self) -> None:
        check(self)


@dataclass
class Classes:
    """The classes of one sequence, or of all in a file."""

    classes: list[str]
    """All classes there are."""
    names: list[str]
    """What each sequence is called."""
    probabilities: np.ndarray
    """Of each sequence's classes [N, K]."""
    show: int = 3

    @property
    def labels(self) -> list[str]:
        """The likeliest class of each sequence."""
        return [self.classes[k] for k in self.probabilities.argmax(1)]

    def __str__(self) -> str:
        lines = []
        for name, p in zip(self.names, self.probabilities, strict=True):
            best = np.argsort(-p, kind="stable")[: self.show]
            lines.append(f"{name}: " + ", ".join(f"{self.classes[k]} {p[k]:.1%}" for k in best))
        return "\n".join(lines)


def predict(model: Model, inputs: Sequence[Any], options: PredictOptions, bad: BadRecords) -> list[Classes]:
    """The classes of each input: a file of sequences, values [T, C] or [T], or a text."""
    encoder = encoder_of(model.config, model.facts)
    return [_classes(model, encoder, _records(model, encoder, one, bad), options.show) for one in inputs]


def _records(model: Model, encoder: Encoder, one: Any, bad: BadRecords) -> list[Record]:
    """The sequences of an input."""
    if isinstance(one, (str, Path)) and (encoder.kind == "series" or Path(one).suffix in labelled.SUFFIXES):
        return encoder.fitting(model.config.reader(bad, encoder.channels).read(labelled.files_of(Path(one))))
    if encoder.kind == "text":
        if not isinstance(one, str) or not len(encoder.tokens.encode(one)):
            raise ConveyorError(f"[predict] expected a text with something in it, got {one!r:.40}")
        return [Record(one, "", None, one)]
    try:
        values = np.asarray(one, np.float32)
    except (TypeError, ValueError) as error:
        raise ConveyorError(f"[predict] expected a file, or values [T, {encoder.width}] ({error})") from None
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or values.shape[1] != encoder.width or not values.size or not np.isfinite(values).all():
        raise ConveyorError(
            f"[predict] expected values [T, {encoder.width}], all of them numbers, got {list(values.shape)}"
        )
    return [Record("sequence", "", None, values)]


@torch.inference_mode()
def steps(model: Model, input: Any) -> Iterator[Steps]:
    """A sequence: the tokens of a text, or the numbers of its steps, and nothing that is expected of each."""
    encoder = encoder_of(model.config, model.facts)
    record, *_ = _records(model, encoder, input, BadRecords(False, ""))
    batch = encoder.batches([record], 1).batch(0, 0)
    model.network(*batch[:2])
    count = int(batch[1][0])
    if encoder.kind == "text":
        yield Steps([f"{encoder.tokens.decode([n])} " for n in batch[0][:count, 0].tolist()])
    else:
        yield Steps([f"{n} " for n in range(count)])


@torch.inference_mode()
def _classes(model: Model, encoder: Encoder, records: list[Record], show: int) -> Classes:
    split = encoder.batches(records, model.config.training.batch_size)
    order = np.argsort(-split.lengths, kind="stable")  # as `Batches` has them
    each = [model.network(*split.batch(0, n)[:2]).double().softmax(1) for n in range(len(split))]
    probabilities = np.empty((len(records), len(encoder.classes)))
    probabilities[order] = torch.cat(each).numpy()
    return Classes(encoder.classes, [record.name for record in records], probabilities, show)


def save(results: list[Classes], path: Path) -> None:
    """A row a sequence: id, label, and a column a class; as the ending says CSV, Parquet or JSON."""
    columns: dict[str, Any] = {"id": [name for one in results for name in one.names]}
    columns["label"] = [label for one in results for label in one.labels]
    for k, name in enumerate(results[0].classes):
        columns[f"p_{name}"] = np.concatenate([one.probabilities[:, k] for one in results])
    table, content = pl.DataFrame(columns), io.BytesIO()
    if path.suffix == ".parquet":
        table.write_parquet(content)
    elif path.suffix == ".json":
        table.write_json(content)
    else:
        table.write_csv(content, separator="\t" if path.suffix == ".tsv" else ",")
    files.write(path, content.getvalue())


def show(model: Model, data: Data, folder: Path) -> str:
    """The confusion matrix of the test part, as a picture and class by class."""
    sums = sums_over(model.task, model.config, model.network, data.test)
    matrix, classes = np.asarray(sums["confusion"]), data.facts["classes"]
    confusion.draw(folder / "confusion.png", matrix, classes)
    return f"The test part:\n\n![Confusion matrix](confusion.png)\n\n{confusion.table(matrix, classes)}\n"


def smoke(folder: Path) -> Smoke:
    """Waves that rise or fall, of unequal lengths."""
    random = np.random.default_rng(0)
    file, rows = folder / "waves.csv", ["id,step,left,right,label"]
    for n in range(120):
        label, T = ("falls", "rises")[n % 2], random.integers(8, 20)
        line = (2 * (n % 2) - 1) * np.linspace(-1, 1, T)
        for step, (left, right) in enumerate(random.normal(0, 0.5, (T, 2)) + line[:, None] * [1, 0.5]):
            rows.append(f"{n},{step},{left:.4f},{right:.4f},{label}")
    files.write(file, ("\n".join(rows) + "\n").encode())
    training = TrainingOptions(batch_size=8, epochs=5, learning_rate=0.01)
    return Smoke(Config(hidden_size=8, reading=ReadingOptions(data=(str(file),)), training=training), (str(file),))
