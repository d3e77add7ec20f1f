r"""Speech recognition: what is said in a recording, and when.

The task: of a recording, as frames of energy in 40 bands of the mel scale every 10 ms, write the characters
(or words) y_1 … y_U. A stack of LSTMs in both directions reads the frames, and connectionist temporal classification
finds out by itself which frames are which (A. Graves & N. Jaitly 2014, proceedings.mlr.press/v32/graves14). With
--causal the LSTMs run forward alone, and listen to a recording as it comes in: in chunks of any size, with the same
result. What is said is then written `--delay` steps later, each of `--stack` frames: without that, training soon writes
at the first sound, and never learns to wait for the rest of a word.

    conveyor train speech-recognition --data recordings/ metadata.csv
    conveyor evaluate runs/speech-recognition/TIME --beam 10
    conveyor predict runs/speech-recognition/TIME recording.wav -o recording.png

Data: recordings that PyAV decodes, of any rate and number of channels, and a table of what is said in them: CSV, the
metadata of LJSpeech, or Kaldi's `text`. With the columns start and end, in seconds, or start_frame and end_frame, a row
is of a part of its recording: where whole recordings are named too, parts train, and the whole are scored. Those to
test on are named by --test-column and --test-values, or drawn from --split-seed, as those to choose by are.

Free Spoken Digits (github.com/Jakobovski/free-spoken-digit-dataset), its official test part: 99.7 % of single digits
are right after 3 minutes on one core; of three to seven of them end to end (`--join 3 7`), 0.5 % of the words are wrong
after 7 minutes:

    conveyor train speech-recognition --data fsdd --rate 8000 --test-column index --test-values 0 1 2 3 4 \
        --arithmetic bfloat16 --threads 1

Heard as it comes in, with a tenth of a second's delay (`--causal --tokens word`), 98.7 % of single digits are right
after 2 minutes, and 1.4 % of the words of three to seven are wrong after 4.

The sound of GRID's speaker 1: 2.8 % of the words wrong after 4 minutes on one core, 800 sentences to train. Where few
words are ever said, in nearly the same order, words cut out of the sentences and joined in any order tell them apart:

    conveyor train speech-recognition --data grid_s1/audio grid_s1/captions.csv grid_s1/words.csv --leave-out sil sp \
        --tokens word --join-parts 1 6 --layers 2 --dropout 0.2 --mask-bands 4 --mask-frames 4 --learning-rate 0.003 \
        --epochs 25 --arithmetic bfloat16 --threads 1

Scores: `loss`, nats a token; `wer`, the word error rate by jiwer: words that are wrong, too many or missing over
all words, in per cent; `cer`, the same of characters; `exact`, the share of recordings without any error.
"""

from __future__ import annotations

import csv
import io
import wave
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from conveyor.data import sound
from conveyor.data.batches import Batches, pad
from conveyor.data.records import BadRecords
from conveyor.data.sound import HOP, Recording
from conveyor.data.written import Written
from conveyor.errors import ConveyorError
from conveyor.interchange import modules
from conveyor.interchange.graph import Graph
from conveyor.nn import LSTM
from conveyor.nn.ctc import Spelled, best_path, ctc_loss
from conveyor.nn.spectrogram import SpecAugment, stacked
from conveyor.tasks import language_model
from conveyor.training import bundle, files, kept, sound_picture, spelling
from conveyor.training.options import (
    Count,
    Depth,
    Positive,
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

UNIT = "frames"
ENDINGS: tuple[str, ...] = (".txt", ".csv", ".json", ".png")
MOST_WORDS = 10_000
"""Words that a model may know, where it writes words."""


@dataclass(kw_only=True)
class Config:
    """Train a listener.

    Data: folders of recordings, and a table of what is said in them. --limit counts recordings.
    """

    rate: Size = 16_000
    """Samples a second that recordings are brought to."""
    test_column: str = ""
    """The column of the table that says what to test on."""
    test_values: tuple[str, ...] = ()
    """What it says there."""
    split_seed: Whole = 0
    """Recordings to choose by, and to test on if no column says it, are drawn from this."""
    leave_out: tuple[str, ...] = ()
    """Texts that are left out, such as those that stand for silence."""
    frame_rate: Positive = 25.0
    """Frames a second, where a table counts frames of a video."""
    join: tuple[Count, ...] = ()
    """Put so many recordings of a speaker end to end, from the first number to the second: 3 7."""
    join_parts: tuple[Count, ...] = ()
    """In training put so many parts of recordings end to end, in any order, so that words are told by their sound."""
    speaker_column: str = "speaker"
    """The column of who speaks."""
    tokens: Literal["char", "word"] = "char"
    """What is written: characters, or words, where few are ever said."""
    stack: Count = 2
    """Frames read at a step."""
    hidden_size: Size = 128
    """Units of a layer and direction."""
    layers: Depth = 3
    """Layers, one upon the other."""
    causal: bool = False
    """Hear nothing of what comes later, so that a stream can be listened to."""
    delay: Whole = 5
    """Steps that a causal model hears of what follows before it writes."""
    variant: VariantName = "lstm"
    """Which LSTM: a name in `conveyor.VARIANTS` (docs/variants.md)."""
    dropout: Share = 0.3
    """Share dropped between layers and of the outputs."""
    mask_bands: Whole = 8
    """Bands that training hides at once, at most (Park et al. 2019)."""
    mask_frames: Whole = 20
    """Frames that it hides at once, at most."""
    arithmetic: Literal["float32", "bfloat16"] = "float32"
    """Of training; bfloat16 is faster on processors that have it. Weights, and all scores, are float32."""
    reading: ReadingOptions = field(default_factory=ReadingOptions)
    training: TrainingOptions = field(
        default_factory=lambda: TrainingOptions(
            batch_size=16, epochs=60, learning_rate=0.002, schedule="cosine", average="ema", average_decay=0.995
        )
    )

    def __post_init__(self) -> None:
        check(self, self._conflicts)

    def _conflicts(self) -> Iterator[str]:
        for name, given in (("--join", self.join), ("--join-parts", self.join_parts)):
            if given and (len(given) != 2 or given[0] > given[1]):
                yield f"{name}: expected two numbers, the smaller first"
        if bool(self.test_column) != bool(self.test_values):
            yield "--test-column and --test-values: expected both or none"


# Reading


class Batch(NamedTuple):
    """Recordings side by side; time goes first."""

    frames: Tensor
    """[T, B, bands]"""
    lengths: Tensor
    """[B]"""
    targets: Tensor
    """Tokens [B, U]."""
    target_lengths: Tensor
    """[B]"""
    texts: list[str]
    target: Written
    """What makes texts of tokens."""


class Row(NamedTuple):
    """A recording as frames of energy."""

    frames: np.ndarray
    text: str
    about: dict[str, str]
    where: str


def read(config: Config, facts: dict[str, Any] | None = None) -> Data:
    """Read the recordings of each part; tokens and scales are those of the training part, or of `facts`."""
    reading = config.reading
    if not reading.data:
        raise ConveyorError("[data] nothing to read; name recordings and a table of what is said in them with --data")
    bad = BadRecords(reading.skip_bad)
    recordings = [part[: reading.limit] for part in split(config, _table(config, reading.data, bad))]
    heard = listen(config, [one for part in recordings for one in part], bad)
    parts = [[heard[one.where] for one in part if one.where in heard] for part in recordings]
    if config.join:
        parts = [joined(config, config.join, part, seed) for seed, part in enumerate(parts)]
    if config.join_parts:
        cut = [heard[one.where] for one in recordings[0] if one.where in heard and not one.whole]
        if not cut:
            raise ConveyorError(
                "[data] --join-parts: expected a table of parts, with start and end, got none; give one, or leave "
                "it out"
            )
        whole = [heard[one.where] for one in recordings[0] if one.where in heard and one.whole]
        parts[0] = whole + joined(config, config.join_parts, cut, 0)
    coder = Coder(config, facts or learn(config, parts[0], bad))
    train = coder.batches(parts[0], bad, config.training.seed)
    valid, test = (coder.batches(part, bad) for part in parts[1:])
    counts = " + ".join(f"{len(part.lengths):,}" for part in (train, valid, test))
    minutes = sum(len(row.frames) for part in parts for row in part) * HOP / 60
    summary = f"{counts} recordings to train, validate, test, {minutes:.0f} minutes"
    summary += f"; {len(coder.target) - 2} {'characters' if config.tokens == 'char' else 'words'}"
    return Data(train, valid, test, coder.facts, summary + bad.summary())


def _table(config: Config, data: Sequence[str], bad: BadRecords) -> list[Recording]:
    return sound.read_table([Path(path) for path in data], bad, config.leave_out, config.frame_rate)


def split(config: Config, recordings: Sequence[Recording]) -> list[list[Recording]]:
    """What trains, validates and tests; all parts of a recording go together."""
    reading = config.reading
    test = [one for one in recordings if _tests(config, one)]
    if config.test_values and not test:
        raise ConveyorError(
            f"[data] expected recordings with {', '.join(config.test_values)} in the column {config.test_column}, got "
            "none; mend --test-column or --test-values"
        )
    names = {one.path.name for one in test}
    rest = [one for one in recordings if one.path.name not in names]
    keys = sound.split(
        [one.path.stem for one in rest], reading.valid_share, 0 if test else reading.test_share, config.split_seed
    )
    train, valid, drawn = ([one for one in rest if one.path.stem in part] for part in keys)
    return [train, scored(valid), scored(test or drawn)]


def scored(recordings: Sequence[Recording]) -> list[Recording]:
    """Those that are scored: the whole ones, or where there are none all."""
    return [one for one in recordings if one.whole] or [*recordings]


def _tests(config: Config, one: Recording) -> bool:
    """Whether its table says that it is for testing."""
    return one.about.get(config.test_column, "") in config.test_values


def listen(config: Config, recordings: Sequence[Recording], bad: BadRecords) -> dict[str, Row]:
    """The frames of each recording that can be read, by where it is named; kept from run to run."""
    paths = sorted({one.path for one in recordings})

    def compute() -> list[np.ndarray]:
        trial, found = BadRecords(True), [np.zeros((0, sound.BANDS), np.float32)]
        for path in paths:
            found.append(found[0])
            with trial.record():
                found[-1] = sound.bands(sound.read(path, config.rate), config.rate)
        return [np.concatenate(found), np.cumsum([len(one) for one in found])]

    frames, ends = kept.arrays(kept.digest(paths, "bands", config.rate), ("frames", "ends"), compute)
    of = {path: frames[first:last] for path, first, last in zip(paths, ends[:-1], ends[1:], strict=True)}
    rows = {}
    for one in recordings:
        with bad.record():
            own = of[one.path]
            if not len(own):  # read again, to say why
                own = sound.bands(sound.read(one.path, config.rate), config.rate)
            rows[one.where] = Row(one.frames(np.asarray(own)), one.text, one.about, one.where)
    return rows


def joined(config: Config, counts: Sequence[int], rows: Sequence[Row], seed: int) -> list[Row]:
    """As many rows, each of several of one speaker, end to end."""
    random = np.random.default_rng((config.split_seed, seed))
    of: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        of[row.about.get(config.speaker_column, "")].append(row)
    found = []
    for own in of.values():
        for _ in own:
            some = [own[n] for n in random.integers(len(own), size=random.integers(counts[0], counts[1] + 1))]
            text = " ".join(row.text for row in some)
            found.append(some[0]._replace(frames=np.concatenate([row.frames for row in some]), text=text))
    return found


def read_test(config: Config, facts: dict[str, Any], data: Sequence[str], bad: BadRecords) -> Batches:
    """Other recordings: those of --test-values, if there are some, or all."""
    recordings = scored(_table(config, data, bad))
    chosen = [one for one in recordings if _tests(config, one)]
    rows = [*listen(config, chosen or recordings, bad).values()]
    return Coder(config, facts).batches(joined(config, config.join, rows, 2) if config.join else rows, bad)


def learn(config: Config, train: Sequence[Row], bad: BadRecords) -> dict[str, Any]:
    """The facts: what is written, and mean and deviation of each band."""
    if not train:
        raise ConveyorError(f"[data] expected recordings to train on, got none{bad.summary()}")
    frames = np.concatenate([row.frames for row in train])
    return {
        "characters": Written.learn(config.tokens, [row.text.lower() for row in train], MOST_WORDS).to_json(),
        "mean": frames.mean(0).round(4).tolist(),
        "deviation": frames.std(0).clip(0.1).round(4).tolist(),
    }


class Coder:
    """What makes tensors of recordings."""

    def __init__(self, config: Config, facts: dict[str, Any]) -> None:
        self.config, self.facts = config, facts
        self.target = Written.from_json(facts.get("characters"))
        scales = [facts.get("mean"), facts.get("deviation")]
        if not all(isinstance(one, list) and len(one) == sound.BANDS for one in scales):
            raise ConveyorError(f"[model] mean, deviation: expected {sound.BANDS} numbers; copy the model's file again")
        self.mean, self.deviation = (np.array(one, np.float32) for one in scales)

    def scaled(self, frames: np.ndarray) -> np.ndarray:
        """Bands with mean 0 and deviation 1 over the training part."""
        return (frames - self.mean) / self.deviation

    def batches(self, rows: Sequence[Row], bad: BadRecords, seed: int | None = None) -> Batches:
        """Batches of recordings, of like length; a text that is too long for its recording is a mistake."""
        good = []
        for row in rows:
            with bad.record():
                text = self.target.encode(row.text.lower())
                self._check_room(row, text)
                good.append((self.scaled(row.frames), text, row.text.lower()))
        if not good:
            raise ConveyorError(f"[data] expected recordings with their texts, got none{bad.summary()}")

        def collate(chosen: np.ndarray) -> Batch:
            frames, texts, said = zip(*(good[n] for n in chosen), strict=True)
            return Batch(
                torch.from_numpy(pad(frames)),
                torch.tensor([len(one) for one in frames]),
                torch.from_numpy(pad(texts).T.copy()),
                torch.tensor([len(one) for one in texts]),
                [*said],
                self.target,
            )

        return Batches([len(frames) for frames, _, _ in good], self.config.training.batch_size, collate, seed)

    def _check_room(self, row: Row, text: np.ndarray) -> None:
        steps = -(-len(row.frames) // self.config.stack)
        needed = len(text) + int((text[1:] == text[:-1]).sum())
        if needed > steps:
            raise ConveyorError(
                f"[data] {row.where}: expected the text of its recording, got {row.text[:40]!r}, whose tokens need "
                f"{needed} steps of its {steps}; mend it, or lower --stack"
            )


# Network and loss

State = tuple[Tensor, Tensor]


class Network(nn.Module):
    """A stack of LSTMs over frames, and a distribution over tokens."""

    def __init__(self, config: Config, tokens: int) -> None:
        super().__init__()
        self.stack: int = config.stack
        self.delay: int = config.delay if config.causal else 0
        self.augment = SpecAugment(config.mask_bands, config.mask_frames)
        between = config.dropout if config.layers > 1 else 0.0
        self.lstm = LSTM(
            config.stack * sound.BANDS, config.hidden_size, config.layers, dropout=between,
            bidirectional=not config.causal, variant=config.variant,
        )  # fmt: skip
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear((2 - config.causal) * config.hidden_size, tokens)

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [T, B, tokens], and the steps of each row."""
        silence = frames.new_zeros(self.delay * self.stack, *frames.shape[1:])
        logits, _ = self.hear(torch.cat([self.augment(frames, lengths), silence]), lengths + len(silence))
        return logits[self.delay :], -(-lengths // self.stack)

    def hear(self, frames: Tensor, lengths: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """What is written at each step, which is of what was heard `delay` before it, and the state to go on with."""
        read, state = self.lstm(stacked(frames, self.stack), state, lengths=-(-lengths // self.stack))
        return self.output(self.dropout(read)), state


def network(config: Config, facts: dict[str, Any]) -> Network:
    """The untrained network."""
    return Network(config, len(Coder(config, facts).target))


def graph(model: Model) -> Graph:
    """`--stack` frames of log-mel bands behind one another, as `sound.bands` gives them, to logits of the tokens, which
    of a causal model are of what it heard `--delay` steps before."""
    network, coder = modules.expect(model.network, Network), Coder(model.config, model.facts)
    mean, deviation = (np.tile(one, network.stack) for one in (coder.mean, coder.deviation))
    graph = Graph(features=len(mean))
    x = graph.scale(0, 1 / deviation, -mean / deviation)
    modules.linear(graph, modules.recurrent(graph, x, network.lstm), network.output)
    return graph


def loss(config: Config, network: nn.Module, batch: Batch, carried: None) -> Outcome:
    """CTC's nats a token; in validation and test also what is heard, and its errors."""
    short = config.arithmetic == "bfloat16" and network.training
    with torch.autocast(batch.frames.device.type, torch.bfloat16, enabled=short):
        logits, steps = network(batch.frames, batch.lengths)
    nats = ctc_loss(logits.float(), steps, batch.targets, batch.target_lengths).sum()
    count = int(batch.target_lengths.sum())
    sums: Sums = {"nats": nats.detach().double(), "tokens": count, "frames": int(batch.lengths.sum())}
    if not network.training:
        written = [batch.target.decode(one.tokens) for one in best_path(logits, steps)]
        sums |= spelling.errors(written, batch.texts)
    return Outcome(nats / count, count, sums)


def scores(sums: dict[str, Any]) -> dict[str, float]:
    """Nats a token, error rates of words and characters, recordings without any."""
    return {"loss": sums["nats"] / sums["tokens"]} | spelling.rates(sums)


# Listening


@dataclass(kw_only=True)
class EvaluateOptions(spelling.SearchOptions):
    """Score texts found by a beam search."""


@torch.inference_mode()
def evaluate(model: Model, split: Batches, options: EvaluateOptions) -> dict[str, float]:
    """Scores of texts found by a beam search."""
    model.network.eval()
    total: Sums = {}
    for index in range(len(split)):
        batch = split.batch(0, index)
        logits, steps = model.network(batch.frames, batch.lengths)
        read = _search(options, batch.target)(logits, steps)
        sums = loss(model.config, model.network, batch, None).sums
        total = add(total, sums | spelling.errors([batch.target.decode(one.tokens) for one in read], batch.texts))
    return numbers(model.task, total)


def _search(options: spelling.SearchOptions, target: Written) -> spelling.Search:
    folder = options.language_model
    return spelling.Search(options, target, bundle.read(Path(folder), language_model) if folder else None)


@dataclass(kw_only=True)
class PredictOptions(spelling.SearchOptions):
    """Write down what is said in recordings."""

    chunk: Count | None = None
    """Listen to so many milliseconds at a time, as to a microphone; of a --causal model."""


class Listener:
    """A causal model that hears a stream: `hear` gives what was said so far, whatever the size of the chunks."""

    def __init__(self, model: Model) -> None:
        if not model.config.causal:
            raise ConveyorError(
                "[predict] a stream: expected a model trained with --causal, got one of both directions"
            )
        self.network = modules.expect(model.network, Network)
        self.coder = Coder(model.config, model.facts)
        self.bands = sound.Bands(model.config.rate)
        self.waiting = np.zeros((0, sound.BANDS), np.float32)
        self.early = self.network.delay
        self.state: State | None = None
        self.logits: list[Tensor] = []
        self.frames: list[np.ndarray] = []

    @torch.inference_mode()
    def hear(self, samples: np.ndarray, last: bool = False) -> str:
        """The next samples, at the model's rate; with `last` also what is left of an unfinished step."""
        fresh = self.bands(samples)
        self.frames.append(fresh)
        stack = self.network.stack
        silence = np.zeros((self.network.delay * stack if last else 0, sound.BANDS), np.float32)
        self.waiting = np.concatenate([self.waiting, self.coder.scaled(fresh), silence])
        count = len(self.waiting) if last else len(self.waiting) // stack * stack
        if count:
            now, self.waiting = self.waiting[:count], self.waiting[count:]
            logits, self.state = self.network.hear(torch.from_numpy(now)[:, None], torch.tensor([count]), self.state)
            self.logits.append(logits[self.early :])
            self.early -= min(self.early, len(logits))
        return self.coder.target.decode(self.spelled().tokens)

    def spelled(self) -> Spelled:
        """What was said so far, and when."""
        if not self.logits:
            return Spelled([], [], [])
        logits = torch.cat(self.logits)
        return best_path(logits, torch.tensor([len(logits)]))[0]


# Prediction


@dataclass
class Heard:
    """What is said in a recording."""

    name: str
    text: str
    words: list[tuple[str, float, float]]
    """Each with the second it begins at and the one it ends at."""
    confidence: list[float]
    """Of each token."""
    frames: np.ndarray
    """Bands [T, 40]."""

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


class All(list[Heard]):
    """Those of an input."""

    def __str__(self) -> str:
        return "\n".join(map(str, self))


def predict(model: Model, inputs: Sequence[Any], options: PredictOptions, bad: BadRecords) -> list[All]:
    """What is said in each input: a recording, a folder of them, or samples at the model's rate."""
    coder = Coder(model.config, model.facts)
    search = _search(options, coder.target)
    found = []
    for given in inputs:
        heard = All(_heard(model, coder, search, options, *one) for one in _sounds(model.config, given, bad))
        found += [heard] if heard else []
    return found


def _sounds(config: Config, one: Any, bad: BadRecords) -> list[tuple[str, np.ndarray]]:
    """Names and samples of the recordings of an input."""
    if isinstance(one, np.ndarray):
        return [("the samples", sound.checked(one, config.rate, "the samples"))]
    if not isinstance(one, (str, Path)):
        raise ConveyorError(f"[predict] expected a recording, a folder of recordings, or samples, got {one!r:.40}")
    path, found = Path(one), []
    inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in sound.SUFFIXES)
    for file in inside if path.is_dir() else [path]:
        with bad.record():
            found.append((file.name, sound.read(file, config.rate)))
    return found


@torch.inference_mode()
def _heard(
    model: Model, coder: Coder, search: spelling.Search, options: PredictOptions, name: str, samples: np.ndarray
) -> Heard:
    if options.chunk:
        listener, size = Listener(model), max(1, options.chunk * model.config.rate // 1000)
        for first in range(0, len(samples), size):
            listener.hear(samples[first : first + size], last=first + size >= len(samples))
        frames, spelled = np.concatenate(listener.frames), listener.spelled()
    else:
        frames = sound.bands(samples, model.config.rate)
        logits, steps = model.network(torch.from_numpy(coder.scaled(frames))[:, None], torch.tensor([len(frames)]))
        [spelled] = search(logits, steps)
    return _written(coder, name, frames, spelled)


def _written(coder: Coder, name: str, frames: np.ndarray, spelled: Spelled) -> Heard:
    step = coder.config.stack * HOP
    words = [(word, first * step, last * step) for word, first, last in spelling.words(coder.target, spelled)]
    return Heard(name, coder.target.decode(spelled.tokens), words, spelled.confidence, frames)


@torch.inference_mode()
def steps(model: Model, input: Any) -> Iterator[Steps]:
    """A recording, step by step, with the token that each may end, or none."""
    coder, network = Coder(model.config, model.facts), modules.expect(model.network, Network)
    [(_, samples), *_] = _sounds(model.config, input, BadRecords(False, ""))
    frames = coder.scaled(sound.bands(samples, model.config.rate))
    heard = np.pad(frames, ((0, network.delay * network.stack), (0, 0)))
    logits, _ = network.hear(torch.from_numpy(heard)[:, None], torch.tensor([len(heard)]))
    seconds = [f"{n * model.config.stack * HOP:.2f} " for n in range(len(logits))]
    yield Steps(seconds, ["–", *coder.target.pieces(range(1, len(coder.target)))], lambda: logits[:, 0].softmax(-1))


def save(results: list[All], path: Path) -> None:
    """A line a recording (.txt), its words and their seconds (.csv), both (.json), or a picture of the first (.png)."""
    each = [one for heard in results for one in heard]
    if path.suffix == ".png":
        sound_picture.draw(path, [one.frames for one in each[:4]], [one.words for one in each[:4]], HOP)
    elif path.suffix == ".txt":
        files.write(path, "".join(f"{one.text}\n" for one in each).encode())
    elif path.suffix == ".json":
        described = [
            {
                "recording": one.name,
                "text": one.text,
                "confidence": [round(share, 4) for share in one.confidence],
                "words": [{"word": word, "from": round(a, 3), "to": round(b, 3)} for word, a, b in one.words],
            }
            for one in each
        ]
        files.write_json(path, described)
    else:
        table = io.StringIO()
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(["recording", "word", "from", "to"])
        rows.writerows((one.name, word, f"{a:.3f}", f"{b:.3f}") for one in each for word, a, b in one.words)
        files.write(path, table.getvalue().encode())


@torch.inference_mode()
def show(model: Model, data: Data, folder: Path) -> str:
    """Recordings of the test part, what was heard in them and what was said."""
    coder, batch = Coder(model.config, model.facts), data.test.batch(0, len(data.test) // 2)
    logits, steps = model.network(batch.frames, batch.lengths)
    heard = [
        _written(coder, "", batch.frames[:length, b].numpy(), one)
        for b, (length, one) in enumerate(zip(batch.lengths.tolist(), best_path(logits, steps), strict=True))
    ][:8]
    sound_picture.draw(folder / "heard.png", [one.frames for one in heard[:3]], [one.words for one in heard[:3]], HOP)
    table = [f"| {one.text} | {said} |" for one, said in zip(heard, batch.texts, strict=False)]
    rows = ["Recordings of the test part:\n", "| heard | said |", "|---|---|", *table, "", "![Heard](heard.png)\n"]
    return "\n".join(rows)


def smoke(folder: Path) -> Smoke:
    """Words of two tones, high or low."""
    random, rate = np.random.default_rng(0), 8000
    rows, t = ["file,text"], np.arange(round(0.15 * rate)) / rate
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(60):
        letters = random.choice(["a", "o"], 3)
        tones = [np.sin(2 * np.pi * {"a": 1500, "o": 400}[letter] * t) * np.hanning(len(t)) for letter in letters]
        samples = 0.5 * np.concatenate(tones) + random.normal(0, 0.01, 3 * len(t))
        content = io.BytesIO()
        with wave.open(content, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(rate)
            file.writeframes((32000 * samples).astype("<i2").tobytes())
        files.write(folder / f"{n:02}.wav", content.getvalue())
        rows.append(f"{n:02}.wav,{''.join(letters)}")
    files.write(folder / "texts.csv", ("\n".join(rows) + "\n").encode())
    config = Config(
        rate=8000, hidden_size=16, layers=1, delay=2, dropout=0.0, mask_bands=0, mask_frames=0,
        reading=ReadingOptions(data=(str(folder),)),
        training=TrainingOptions(batch_size=8, epochs=5, learning_rate=0.01),
    )  # fmt: skip
    return Smoke(config, (str(folder / "00.wav"),))
