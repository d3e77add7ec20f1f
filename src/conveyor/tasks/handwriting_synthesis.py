r"""Handwriting synthesis: a text in handwriting, point by point.

The task: write a text as a pen would, p(x_1 … x_T | text) of offsets of the pen and its lifts. A stack of LSTMs reads
the points so far; a soft window, which the first moves on, shows the part of the text that is being written; a mixture
of bivariate Gaussians tells where the pen goes next (A. Graves 2013, arXiv 1308.0850). A line of one's own may come
first, whose hand is then kept; with a bias the writing is neater.

    conveyor train handwriting-synthesis --data lines.npz
    conveyor evaluate runs/handwriting-synthesis/TIME --recogniser runs/handwriting-recognition/TIME
    conveyor predict runs/handwriting-synthesis/TIME "conveyor belts" --bias 1 -o line.svg

Data: ink with its texts, as for handwriting-recognition. --train-on, --valid-on and --test-on name the parts.

Scores: `loss`, -log p of a line's points in nats, a mean over lines: less is better, and it may be negative, since
densities may be above 1; offsets have deviation 1 over the training part. `nats_per_point`, the same of a point.
`conveyor evaluate --recogniser` also writes the lines' texts anew and has them read: `cer`, characters read wrong in
per cent.

IAM-OnDB, an hour on one core: -1105 nats a line of set v, where Graves's network without the text has -1041; of what it
writes at bias 1, 9.7 % of the characters are read wrong:

    conveyor train handwriting-synthesis --data iam_ondb --train-on train t f --test-on v --epochs 8 --max-minutes 60 \
        --matmul-precision medium --arithmetic bfloat16 --threads 1
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from conveyor.data import ink
from conveyor.data.batches import Batches, pad
from conveyor.data.ink import Ink
from conveyor.data.records import BadRecords
from conveyor.data.written import Written
from conveyor.errors import ConveyorError
from conveyor.nn import LSTM
from conveyor.nn.mixture import PenMixture
from conveyor.nn.window import WindowLSTM
from conveyor.tasks import handwriting_recognition
from conveyor.training import alignment, bundle, files, spelling
from conveyor.training.alignment import Alignment
from conveyor.training.options import (
    Count,
    NotNegative,
    ReadingOptions,
    Share,
    Size,
    TrainingOptions,
    VariantName,
    Whole,
    check,
)
from conveyor.training.scoring import score
from conveyor.training.task import Data, Model, Outcome, Smoke, Steps

UNIT = "points"
ENDINGS: tuple[str, ...] = (".svg", ".npz", ".png")
MOST_POINTS = 40
"""Points for each character that is written, at most."""
STEADIEST = 0.05
"""The least deviation of an offset that is written, where those of training have 1: pens report whole numbers, which
the densities learn as spikes, and drawn from these alone the pen may stay where it is for good."""


@dataclass(kw_only=True)
class Config:
    """Train a writer.

    Data: ink with texts (.npz, .inkml, .xml). --limit counts lines.
    """

    train_on: tuple[str, ...] = ("train",)
    """The parts to train on, as the data name them."""
    valid_on: tuple[str, ...] = ("v", "valid", "val", "dev")
    """The parts to choose by."""
    test_on: tuple[str, ...] = ("test",)
    """The parts to test on; if there are none, those to choose by are scored."""
    split_seed: Whole = 0
    """Where the data name no parts, those to choose by are drawn from this."""
    pieces: Count = 5
    """Each line is cut into so many, one behind another: a step of training goes back to the start of its piece, before
    which only the state is known (truncated back-propagation through time)."""
    hidden_size: Size = 256
    """Units of each of the three layers."""
    windows: Count = 10
    """Gaussians of the window."""
    mixtures: Count = 20
    """Gaussians of a point."""
    variant: VariantName = "lstm"
    """Which LSTM the upper two are: a name in `conveyor.VARIANTS` (docs/variants.md)."""
    dropout: Share = 0.0
    """Share dropped of the outputs."""
    arithmetic: Literal["float32", "bfloat16"] = "float32"
    """Of the upper LSTMs in training; bfloat16 is faster where the processor has it. Weights and scores are float32."""
    reading: ReadingOptions = field(default_factory=ReadingOptions)
    training: TrainingOptions = field(
        default_factory=lambda: TrainingOptions(
            batch_size=16, epochs=12, learning_rate=0.002, schedule="cosine", average="ema", average_decay=0.998
        )
    )

    def __post_init__(self) -> None:
        check(self)


# Reading


class Batch(NamedTuple):
    """Lines side by side, or a piece of each; time goes first."""

    given: Tensor
    """The points before those of `points` [T, B, 3]."""
    points: Tensor
    """[T, B, 3]: offsets, and 1 where the pen is lifted behind the point."""
    lengths: Tensor
    """[B]"""
    text: Tensor
    """Characters [U, B]."""
    text_lengths: Tensor
    """[B]"""
    texts: list[str]
    piece: int = 0
    """Which of the pieces this is; each but the first follows the batch before."""
    pieces: int = 1


class Pieces:
    """The lines of each batch cut into `count` pieces of time, which are batches one behind another."""

    def __init__(self, lines: Batches, count: int) -> None:
        self.lines, self.count = lines, count

    def __len__(self) -> int:
        return len(self.lines) * self.count

    def batch(self, epoch: int, index: int) -> Batch:
        """Piece `index % count` of a batch of lines."""
        whole: Batch = self.lines.batch(epoch, index // self.count)
        piece, T = index % self.count, len(whole.points)
        start, stop = (T * n // self.count for n in (piece, piece + 1))
        cut = whole._replace(given=whole.given[start:stop], points=whole.points[start:stop])
        return cut._replace(lengths=(whole.lengths - start).clamp(0, stop - start), piece=piece, pieces=self.count)

    def share(self, index: int, count: int) -> Pieces:
        """Of each batch every `count`-th line from `index` on."""
        return Pieces(self.lines.share(index, count), self.count)


def read(config: Config, facts: dict[str, Any] | None = None) -> Data:
    """Read the lines of each part; characters and scales are those of the training part, or of `facts`."""
    if not config.reading.data:
        raise ConveyorError("[data] nothing to read; name ink with its texts with --data")
    bad = BadRecords(config.reading.skip_bad)
    lines = [line for line in ink.read([Path(path) for path in config.reading.data], bad) if line.text]
    train, valid, test = (part[: config.reading.limit] for part in split(config, lines))
    coder = Coder(config, facts or learn(train))
    splits = coder.batches(train, bad, config.training.seed), coder.batches(valid, bad), coder.batches(test, bad)
    counts = " + ".join(f"{len(part.lengths):,}" for part in splits)
    summary = f"{counts} lines to train, validate, test; {len(coder.target) - 2} characters"
    return Data(Pieces(splits[0], config.pieces), *splits[1:], coder.facts, summary + bad.summary())


def split(config: Config, lines: Sequence[Ink]) -> list[list[Ink]]:
    """What trains, validates and tests."""
    parts = [
        [line for line in lines if line.part in names] for names in (config.train_on, config.valid_on, config.test_on)
    ]
    rest = parts[0] or [line for line in lines if not line.part]
    if not parts[1]:
        order = np.random.default_rng(config.split_seed).permutation(len(rest))
        count = max(1, round(config.reading.valid_share * len(rest)))
        parts[1] = [rest[n] for n in np.sort(order[:count])]
        rest = [rest[n] for n in np.sort(order[count:])]
    if not rest:
        raise ConveyorError(f"[data] expected lines with their texts to train on, got {len(lines)} in all; give more")
    return [rest, parts[1], parts[2] or parts[1]]


def read_test(config: Config, facts: dict[str, Any], data: Sequence[str], bad: BadRecords) -> Batches:
    """Other lines: the parts to test on, if the data say so, or all."""
    lines = [line for line in ink.read([Path(path) for path in data], bad) if line.text]
    chosen = [line for line in lines if line.part in config.test_on]
    return Coder(config, facts).batches(chosen or lines, bad)


def offsets(points: np.ndarray) -> np.ndarray:
    """Points [N, 3] with x and y as what they moved by; the first stays where it is."""
    return np.concatenate([np.diff(points[:, :2], axis=0, prepend=points[:1, :2]), points[:, 2:]], 1)


def learn(train: Sequence[Ink]) -> dict[str, Any]:
    """The facts: the characters, and mean and deviation of the offsets."""
    moved = np.concatenate([offsets(line.points)[:, :2] for line in train])
    return {
        "characters": Written.learn("char", [f"{line.text} " for line in train], 0).to_json(),
        "mean": moved.mean(0).tolist(),
        "deviation": moved.std(0).clip(1e-9).tolist(),
    }


def lifted(count: int) -> Tensor:
    """What stands before the first point of `count` lines [1, B, 3]: a pen that was lifted."""
    return torch.tensor([0.0, 0.0, 1.0]).expand(1, count, 3)


class Coder:
    """What makes tensors of lines."""

    def __init__(self, config: Config, facts: dict[str, Any]) -> None:
        self.config, self.facts = config, facts
        self.target = Written.from_json(facts.get("characters"))
        scales = [facts.get("mean"), facts.get("deviation")]
        if not all(isinstance(one, list) and len(one) == 2 for one in scales):
            raise ConveyorError("[model] mean, deviation: expected two numbers each; copy the model's file again")
        self.mean, self.deviation = (np.array(one) for one in scales)

    def scaled(self, points: np.ndarray) -> np.ndarray:
        """Offsets with mean 0 and deviation 1 over the training part."""
        moved = offsets(points)
        moved[:, :2] = (moved[:, :2] - self.mean) / self.deviation
        return moved.astype(np.float32)

    def points(self, moved: np.ndarray) -> np.ndarray:
        """The points [N, 3] of offsets."""
        places = (moved[:, :2] * self.deviation + self.mean).cumsum(0)
        return np.concatenate([places, moved[:, 2:]], 1)

    def text(self, text: str, where: str) -> np.ndarray:
        """Characters, all of which were seen in training; a space stands behind them."""
        known = self.target.tokens.decode(range(1, len(self.target) - 1))
        unknown = sorted({*text} - {*known})
        if not text.strip() or unknown:
            got = "none" if not text.strip() else f"{''.join(unknown)!r}"
            raise ConveyorError(f"[data] {where}: expected characters seen in training, got {got}; write others")
        return self.target.encode(f"{text} ")

    def batches(self, lines: Sequence[Ink], bad: BadRecords, seed: int | None = None) -> Batches:
        """Batches of lines, of like length; of their texts, characters never seen are passed over."""
        rows = [(self.scaled(line.points), self.target.encode(f"{line.text} "), line.text) for line in lines]
        if not rows:
            raise ConveyorError(f"[data] expected lines with their texts, got none{bad.summary()}")

        some = np.zeros((self.config.pieces, 3), np.float32)  # so that no piece is without a point

        def collate(chosen: np.ndarray) -> Batch:
            points, text, texts = zip(*(rows[n] for n in chosen), strict=True)
            lengths, text_lengths = (torch.tensor([len(one) for one in part]) for part in (points, text))
            ink = torch.from_numpy(pad([*points, some])[:, :-1])
            given = torch.cat([lifted(len(points)), ink[:-1]])
            return Batch(given, ink, lengths, torch.from_numpy(pad(text)), text_lengths, [*texts])

        return Batches([len(points) for points, _, _ in rows], self.config.training.batch_size, collate, seed)


# Network and loss

State = tuple[Any, Any, Any]


class Network(nn.Module):
    """Three LSTMs, each of which sees the point, the window and the layer below; the first moves the window."""

    def __init__(self, config: Config, characters: int) -> None:
        super().__init__()
        H = config.hidden_size
        self.characters = characters
        self.first = WindowLSTM(3, characters, H, config.windows)
        self.second = LSTM(3 + H + characters, H, variant=config.variant)
        self.third = LSTM(3 + H + characters, H, variant=config.variant)
        self.dropout = nn.Dropout(config.dropout)
        self.pen = PenMixture(3 * H + characters, config.mixtures)

    def forward(
        self, points: Tensor, text: Tensor, text_lengths: Tensor, lengths: Tensor | None = None,
        state: State = (None, None, None),
    ) -> tuple[Tensor, Tensor, State]:  # fmt: skip
        """What the next points are made of [T, B, …], where the window is [T, B, U], and the state to go on with."""
        one_hot = nn.functional.one_hot(text, self.characters).to(points.dtype)
        with torch.autocast(points.device.type, enabled=False):
            h1, seen, weights, first = self.first(points, one_hot, text_lengths, state[0])
        h2, second = self.second(torch.cat([points, h1, seen], -1), state[1], lengths=lengths)
        h3, third = self.third(torch.cat([points, h2, seen], -1), state[2], lengths=lengths)
        features = self.dropout(torch.cat([h1, h2, h3, seen], -1))
        return features, weights, (first, second, third)


def network(config: Config, facts: dict[str, Any]) -> Network:
    """The untrained network."""
    return Network(config, len(Coder(config, facts).target))


def loss(config: Config, network: Any, batch: Batch, carried: State | None) -> Outcome:
    """-log p of every point behind those before it; the first follows a lifted pen."""
    state = carried if carried and batch.piece else (None, None, None)
    short = config.arithmetic == "bfloat16" and network.training
    with torch.autocast(batch.given.device.type, torch.bfloat16, enabled=short):
        features, _, state = network(batch.given, batch.text, batch.text_lengths, batch.lengths, state)
    there = torch.arange(len(batch.points))[:, None] < batch.lengths
    nats = network.pen.nats(features[there].float(), batch.points[there]).sum()
    lines, points = len(batch.lengths) / batch.pieces, int(batch.lengths.sum())
    sums, weight = {"nats": nats.detach().double(), "lines": lines, "points": points}, max(points, 1)
    return Outcome(nats / weight, weight, sums, tree_map(Tensor.detach, state))


def scores(sums: dict[str, Any]) -> dict[str, float]:
    """Nats a line, and a point."""
    return {"loss": sums["nats"] / sums["lines"], "nats_per_point": sums["nats"] / max(sums["points"], 1)}


# Writing


@dataclass(kw_only=True)
class EvaluateOptions:
    """Score lines, and lines that are written anew."""

    recogniser: str = ""
    """The folder of a run of handwriting-recognition, which reads them."""
    lines: Count = 100
    """How many are written."""
    bias: NotNegative = 1.0
    """How neatly: Graves 2013, (61) and (62)."""

    def __post_init__(self) -> None:
        check(self)


def evaluate(model: Model, split: Batches, options: EvaluateOptions) -> dict[str, float]:
    """Nats of lines; with a recogniser also how well it reads their texts as they are written anew."""
    found = score(model.task, model.config, model.network, split)
    if not options.recogniser:
        return found
    reader = bundle.read(Path(options.recogniser), handwriting_recognition)
    coder, texts = Coder(model.config, model.facts), list[str]()
    for index in range(len(split)):
        texts += split.batch(0, index).texts
    some = texts[:: max(1, len(texts) // options.lines)][: options.lines]
    torch.manual_seed(0)
    lines = _write(model, coder, some, options.bias, None)
    read = [one.text for line in lines for texts in reader.predict(line.points) for one in texts]
    return found | {"cer": spelling.rates(spelling.errors(read, some))["cer"]}


@dataclass(kw_only=True)
class PredictOptions:
    """Write texts."""

    bias: NotNegative = 1.0
    """How neatly: 0 as people do, 1 and more as they would like to."""
    like: str = ""
    """A file of ink, a line of whose hand the writing keeps."""
    like_text: str = ""
    """What that line says, if its file does not."""
    seed: Whole = 1
    """What the writing is drawn from."""

    def __post_init__(self) -> None:
        check(self)


@dataclass
class Line:
    """A text as it was written."""

    text: str
    points: np.ndarray
    """[N, 3]: x, y, which grows downwards, and 1 at the last point of a stroke."""
    weights: np.ndarray
    """Where the window was at each point [N, U]."""

    def __str__(self) -> str:
        return f"{self.text}: {len(self.points)} points; see them with -o"


def predict(model: Model, inputs: Sequence[Any], options: PredictOptions, bad: BadRecords) -> list[Line]:
    """Each text, written."""
    coder = Coder(model.config, model.facts)
    texts = []
    for one in inputs:
        with bad.record():
            if not isinstance(one, str):
                raise ConveyorError(f"[predict] expected a text, got {one!r:.40}")
            coder.text(one, "the text")
            texts.append(one)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        return _write(model, coder, texts, options.bias, _like(options)) if texts else []


def _like(options: PredictOptions) -> Ink | None:
    if not options.like:
        return None
    line = ink.read([Path(options.like)], BadRecords(False, ""))[0]
    said = options.like_text or line.text
    if not said:
        raise ConveyorError(f"[predict] {options.like}: expected what the line says; give it with --like-text")
    return line._replace(text=said)


@torch.inference_mode()
def _write(model: Model, coder: Coder, texts: Sequence[str], bias: float, like: Ink | None) -> list[Line]:
    """All texts side by side, until the window has left them."""
    network: Any = model.network
    before = f"{like.text} " if like else ""
    rows = [coder.text(before + text, "the text") for text in texts]
    B, text = len(rows), torch.from_numpy(pad(rows))
    lengths = torch.tensor([len(row) for row in rows])
    point, state = lifted(B), (None, None, None)
    if like:
        given = torch.from_numpy(coder.scaled(like.points))[:, None].expand(-1, B, -1)
        _, _, state = network(torch.cat([point, given[:-1]]), text, lengths, None, state)
        point = given[-1:]
    points, weights = list[Tensor](), list[Tensor]()
    ends, past = torch.full((B,), MOST_POINTS * int(lengths.max())), torch.zeros(B, dtype=torch.bool)
    for t in range(int(ends[0])):
        features, seen, state = network(point, text, lengths, None, state)
        point = network.pen.sample(features, bias, STEADIEST)
        points.append(point[0])
        weights.append(seen[0])
        past |= seen[0].argmax(-1) >= lengths - 1  # at the space behind the text
        ends = torch.where(past & (point[0, :, 2] > 0) & (ends > t + 1), t + 1, ends)  # and the stroke is drawn
        if (ends <= t + 1).all():
            break
    moved, shown = torch.stack(points).numpy(), torch.stack(weights).numpy()
    skip = len(coder.target.encode(before))
    found = []
    for b, (said, length, end) in enumerate(zip(texts, lengths.tolist(), ends.tolist(), strict=True)):
        own = moved[: max(2, end), b]
        own[-1, 2] = 1
        found.append(Line(said, coder.points(own), shown[: max(2, end), b, skip : length - 1]))
    return found


def steps(model: Model, input: Any) -> Iterator[Steps]:
    """A text as it is written, point by point, by the character that the window shows then."""
    [line] = predict(model, [input], PredictOptions(), BadRecords(False, ""))
    yield Steps([line.text[n] for n in line.weights.argmax(1)])


def save(results: list[Line], path: Path) -> None:
    """Lines below one another (.svg), as strokes (.npz), or the window over the first one's text (.png)."""
    if path.suffix == ".svg":
        files.write(path, svg([one.points for one in results]).encode())
    elif path.suffix == ".png":
        _draw_window(path, results[:1])
    else:
        content = io.BytesIO()
        steps = [offsets(one.points) for one in results]
        texts = [one.text.encode() for one in results]
        whole = np.concatenate(steps)
        np.savez_compressed(
            content, dx=whole[:, 0], dy=whole[:, 1], eos=whole[:, 2].astype(np.uint8),
            offsets=np.cumsum([0, *map(len, steps)]), text=np.frombuffer(b"".join(texts), np.uint8),
            text_offsets=np.cumsum([0, *map(len, texts)]),
        )  # fmt: skip
        files.write(path, content.getvalue())


def svg(lines: Sequence[np.ndarray]) -> str:
    """Lines of points [N, 3] below one another, as a picture of paths."""
    paths, top, wide = list[str](), 0.0, 1.0
    for points in lines:
        own = points[:, :2] - points[:, :2].min(0) + [10, top + 10]
        for stroke in np.split(own, np.flatnonzero(points[:, 2])[:-1] + 1):
            path = " L".join(f"{x:.1f} {y:.1f}" for x, y in stroke)
            paths.append(f'<path d="M{path}"/>')
        top, wide = float(own[:, 1].max()) + 10, max(wide, float(own[:, 0].max()) + 10)
    thick = max(1.0, top / len(lines) / 60)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:.0f} {top + 10:.0f}">'
        f'<g fill="none" stroke="#123" stroke-width="{thick:.1f}" stroke-linecap="round" stroke-linejoin="round">'
        f"{''.join(paths)}</g></svg>\n"
    )


def _draw_window(path: Path, lines: Sequence[Line]) -> None:
    """Characters down, points across."""
    shown = []
    for one in lines:
        weights = one.weights / one.weights.max(1, keepdims=True).clip(1e-9)
        every = max(1, len(weights) // 60)
        steps = [str(t) if k % 5 == 0 else "" for k, t in enumerate(range(0, len(weights), every))]
        shown.append(Alignment(steps, [*one.text], weights[::every].T))
    alignment.draw(path, shown)


def show(model: Model, data: Data, folder: Path) -> str:
    """Texts of the test part as they are written anew, and the window over the first."""
    texts = data.test.batch(0, len(data.test) // 2).texts[:5]
    coder = Coder(model.config, model.facts)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        lines = _write(model, coder, [text for text in texts if _known(coder, text)], 1.0, None)
    if not lines:
        return ""
    save(lines, folder / "lines.svg")
    _draw_window(folder / "window.png", lines[:1])
    said = "\n".join(f"- {one.text}" for one in lines)
    pictures = "![Lines](lines.svg)\n\n![The window over the first](window.png)"
    return f"Texts of the test part, written:\n\n{said}\n\n{pictures}\n"


def _known(coder: Coder, text: str) -> bool:
    try:
        coder.text(text, "")
    except ConveyorError:
        return False
    return True


def smoke(folder: Path) -> Smoke:
    """Lines of zigzags and arcs, as ink."""
    found = handwriting_recognition.smoke(folder).config.reading
    config = Config(
        hidden_size=24, windows=2, mixtures=3, reading=found,
        training=TrainingOptions(batch_size=8, epochs=3, learning_rate=0.01),
    )  # fmt: skip
    return Smoke(config, ("vno",))
