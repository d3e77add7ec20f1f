r"""Speech synthesis: a text, spoken.

The task: of characters y_1 … y_U tell how long each is, and then, frame by frame, what the voice does: the envelope of
its spectrum, pitch, voicing and breath, out of which the WORLD vocoder makes sound. LSTMs in both directions read the
characters for their lengths, and the frames for the voice (Y. Fan et al. 2014, 10.21437/Interspeech.2014-443). How long
characters are in the recordings is found by a run of speech-recognition on the same recordings, which aligns them.

    conveyor train speech-recognition --data recordings/ metadata.csv
    conveyor train speech-synthesis --data recordings/ metadata.csv --aligner runs/speech-recognition/TIME
    conveyor predict runs/speech-synthesis/TIME "Please hold on." -o hold.wav

Data: recordings of one voice, and a table of what is said in them, as for speech-recognition. Those to choose by and to
test on are drawn from --split-seed.

Asterisk's English prompts, 19 minutes of one voice: a distortion of 6.1 dB after 17 minutes on one core, 6.4 of a
network that sees each frame alone, with as many weights (`--network feedforward`); the aligner first:

    conveyor train speech-recognition --data asterisk_en --epochs 150 --hidden-size 160 --dropout 0.4 --mask-frames 10 \
        --batch-size 8 --arithmetic bfloat16 --threads 1 --run ALIGNER
    conveyor train speech-synthesis --data asterisk_en --aligner ALIGNER --epochs 25 --dropout 0.4 --hidden-size 192 \
        --average-decay 0.99 --matmul-precision medium --threads 1 --skip-bad

Scores: `loss`, of the scaled numbers of the voice and of the logarithms of lengths; `mcd`, the mel-cepstral distortion
in decibels of frames with the lengths of the recording; `pitch_error`, the root mean square error of the pitch in
semitones where there is one; `voicing_error`, the share of frames voiced wrongly. `conveyor evaluate --recogniser`
tells how well a run of speech-recognition reads what is spoken, `cer`, beside the recordings themselves,
`cer_recorded`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from conveyor.data import sound, voice
from conveyor.data.batches import Batches, pad
from conveyor.data.records import BadRecords
from conveyor.data.sound import Recording
from conveyor.data.voice import ENVELOPE, Voice
from conveyor.data.written import Written
from conveyor.errors import ConveyorError
from conveyor.nn import LSTM
from conveyor.nn.ctc import align
from conveyor.nn.voice import FrameReader
from conveyor.tasks import speech_recognition
from conveyor.training import bundle, files, kept, sound_picture, spelling
from conveyor.training.options import (
    Count,
    Range,
    ReadingOptions,
    Share,
    Size,
    TrainingOptions,
    VariantName,
    Whole,
    check,
)
from conveyor.training.scoring import score
from conveyor.training.task import Data, Model, Outcome, Smoke, Steps, Sums

UNIT = "frames"
ENDINGS: tuple[str, ...] = (".wav", ".png")
BREATHS = 1
"""Bands of breath at these rates."""
NUMBERS = ENVELOPE + 1 + BREATHS
"""What is told of a frame besides voicing: envelope, pitch, breath."""
LONGEST = 400
"""Frames of a character, at most."""


@dataclass(kw_only=True)
class Config:
    """Train a speaker.

    Data: folders of recordings, and a table of what is said in them. --limit counts recordings.
    """

    aligner: str = ""
    """The folder of a run of speech-recognition, which finds where characters are."""
    rate: Size = 16_000
    """Samples a second, 12,000 to 16,000."""
    split_seed: Whole = 0
    """What validates and tests is drawn from this."""
    longest: Count = 15
    """Seconds of a recording; longer ones are left out."""
    network: Literal["lstm", "feedforward"] = "lstm"
    """What reads the frames: LSTMs in both directions, or a network that sees each frame alone."""
    embedding_size: Size = 32
    """Numbers that stand for a character."""
    hidden_size: Size = 128
    """Units of a layer and direction; the feed-forward network has as many weights."""
    variant: VariantName = "lstm"
    """Which LSTM: a name in `conveyor.VARIANTS` (docs/variants.md)."""
    dropout: Share = 0.3
    """Share dropped between layers and of the outputs."""
    reading: ReadingOptions = field(default_factory=ReadingOptions)
    training: TrainingOptions = field(
        default_factory=lambda: TrainingOptions(
            batch_size=8, epochs=40, learning_rate=0.002, schedule="cosine", average="ema", average_decay=0.99
        )
    )

    def __post_init__(self) -> None:
        check(self, lambda: [] if 12_000 <= self.rate <= 16_000 else ["--rate: expected 12,000 to 16,000"])


# Reading


class Batch(NamedTuple):
    """Recordings side by side; characters and frames go first."""

    text: Tensor
    """Characters [U, B], with silence, 0, before and behind."""
    text_lengths: Tensor
    """[B]"""
    durations: Tensor
    """Frames of each character [U, B]."""
    log_lengths: Tensor
    """The logarithms of one more than that, scaled."""
    numbers: Tensor
    """[T, B, NUMBERS], scaled."""
    voiced: Tensor
    """[T, B]"""
    lengths: Tensor
    """[B]"""
    scale: Tensor
    """Deviation of each number [NUMBERS]."""
    rate: int
    texts: list[str]


class Row(NamedTuple):
    """A recording, aligned."""

    text: str
    symbols: np.ndarray
    durations: np.ndarray
    numbers: np.ndarray
    """[T, NUMBERS + 1]: envelope, pitch, breath, voiced."""


def read(config: Config, facts: dict[str, Any] | None = None) -> Data:
    """Read and align the recordings of each part; scales are those of the training part, or of `facts`."""
    reading = config.reading
    if not reading.data or not config.aligner:
        raise ConveyorError("[data] nothing to read; name recordings and a table with --data, and an --aligner")
    bad = BadRecords(reading.skip_bad)
    recordings = _whole(reading.data, bad)
    keys = sound.split(
        [one.path.stem for one in recordings], reading.valid_share, reading.test_share, config.split_seed
    )
    parts = [[one for one in recordings if one.path.stem in part][: reading.limit] for part in keys]
    rows = aligned(config, [one for part in parts for one in part], bad)
    found = [[rows[one.path] for one in part if one.path in rows] for part in parts]
    if not all(found):
        raise ConveyorError(
            f"[data] expected recordings to train on, to choose by and to test on, got too few{bad.summary()}"
        )
    coder = Coder(config, facts or learn(config, found[0]))
    splits = coder.batches(found[0], config.training.seed), coder.batches(found[1]), coder.batches(found[2])
    counts = " + ".join(f"{len(part.lengths):,}" for part in splits)
    minutes = sum(len(row.numbers) for part in found for row in part) * voice.PERIOD / 60
    return Data(
        *splits, coder.facts, f"{counts} recordings to train, validate, test, {minutes:.0f} minutes" + bad.summary()
    )


def _whole(data: Sequence[str], bad: BadRecords) -> list[Recording]:
    return [one for one in sound.read_table([Path(path) for path in data], bad) if one.whole]


def aligned(config: Config, recordings: Sequence[Recording], bad: BadRecords) -> dict[Path, Row]:
    """Each recording as a voice, with the frames of each of its characters; kept from run to run."""
    aligner = bundle.read(Path(config.aligner), speech_recognition)
    if aligner.config.tokens != "char":
        raise ConveyorError(
            f"[data] --aligner: expected one of characters, got {config.aligner}, which writes words; train one "
            "without --tokens word"
        )
    coder = speech_recognition.Coder(aligner.config, aligner.facts)
    rows: dict[Path, Row] = {}

    def compute(one: Recording) -> list[np.ndarray]:
        samples = sound.read(one.path, config.rate)
        if len(samples) > config.longest * config.rate:
            return [np.zeros((0, NUMBERS + 1), np.float32), np.zeros(0, int), np.zeros(0, int)]
        own = voice.analyse(samples, config.rate)
        numbers = np.concatenate([own.envelope, own.pitch[:, None], own.breath, own.voiced[:, None]], 1)
        return [numbers, *_durations(aligner, coder, one, len(numbers), samples, config.rate)]

    for one in recordings:
        with bad.record():
            key = kept.digest(
                [one.path, Path(config.aligner) / "model.safetensors"], "voice", config.rate, config.longest, one.text
            )
            numbers, symbols, durations = kept.arrays(key, ("numbers", "symbols", "durations"), partial(compute, one))
            if len(numbers):
                rows[one.path] = Row(one.text, np.array(symbols), np.array(durations), np.array(numbers))
    return rows


@torch.inference_mode()
def _durations(
    aligner: Model, coder: Any, one: Recording, frames: int, samples: np.ndarray, rate: int
) -> tuple[np.ndarray, np.ndarray]:
    """The characters with silence around them, and the frames of each: a boundary is halfway between two characters."""
    heard = samples if rate == aligner.config.rate else sound.read(one.path, aligner.config.rate)
    bands = sound.bands(heard, aligner.config.rate)
    logits, steps = aligner.network(torch.from_numpy(coder.scaled(bands))[:, None], torch.tensor([len(bands)]))
    symbols = coder.target.encode(one.text.lower())
    try:
        spans = align(logits[:, 0], int(steps[0]), symbols.tolist()).spans
    except ValueError as error:
        raise ConveyorError(f"[data] {one.where}: expected the text of its recording, but {error}; mend it") from None
    step = aligner.config.stack * sound.HOP / voice.PERIOD
    middles = [(a[1] + b[0]) / 2 for a, b in pairwise(spans)]
    half = 2.0 * aligner.config.stack**-1  # about 20 ms around the first and the last character
    bounds = np.array([0, max(0, spans[0][0] - half), *middles, spans[-1][1] + half, frames / step]) * step
    ends = np.maximum.accumulate(bounds.round().clip(0, frames).astype(int))
    ends[-1] = frames
    return np.concatenate([[0], symbols, [0]]), np.diff(ends)


def read_test(config: Config, facts: dict[str, Any], data: Sequence[str], bad: BadRecords) -> Batches:
    """Other recordings."""
    rows = aligned(config, _whole(data, bad), bad)
    if not rows:
        raise ConveyorError(f"[data] expected recordings with their texts, got none{bad.summary()}")
    return Coder(config, facts).batches([*rows.values()])


def learn(config: Config, train: Sequence[Row]) -> dict[str, Any]:
    """The facts: the aligner's characters, and mean and deviation of the numbers of a frame and of log lengths."""
    aligner = bundle.read(Path(config.aligner), speech_recognition)
    numbers = np.concatenate([row.numbers[:, :NUMBERS] for row in train])
    logs = np.log1p(np.concatenate([row.durations for row in train]))
    return {
        "characters": aligner.facts["characters"],
        "mean": numbers.mean(0).round(5).tolist(),
        "deviation": numbers.std(0).clip(1e-3).round(5).tolist(),
        "length": [float(logs.mean()), float(logs.std().clip(1e-3))],
    }


class Coder:
    """What makes tensors of texts and voices."""

    def __init__(self, config: Config, facts: dict[str, Any]) -> None:
        self.config, self.facts = config, facts
        self.target = Written.from_json(facts.get("characters"))
        sizes = {"mean": NUMBERS, "deviation": NUMBERS, "length": 2}
        if any(not isinstance(facts.get(name), list) or len(facts[name]) != size for name, size in sizes.items()):
            raise ConveyorError(f"[model] {', '.join(sizes)}: expected lists of numbers; copy the model's file again")
        self.mean, self.deviation = (np.array(facts[name], np.float32) for name in ("mean", "deviation"))
        self.length_mean, self.length_deviation = facts["length"]

    def durations(self, scaled: np.ndarray) -> np.ndarray:
        """Frames of characters, of scaled log lengths."""
        frames: np.ndarray = np.expm1(scaled * self.length_deviation + self.length_mean)
        return frames.round().clip(1, LONGEST).astype(int)

    def text(self, text: str) -> np.ndarray:
        """Characters, with silence around them; those never heard are passed over."""
        known = {*self.target.tokens.decode(range(1, len(self.target) - 1))}
        left = "".join(character for character in text.lower() if character in known)
        if not left.strip():
            raise ConveyorError(
                f"[predict] the text: expected characters that were heard in training, got {text[:40]!r}"
            )
        return np.concatenate([[0], self.target.encode(left), [0]])

    def batches(self, rows: Sequence[Row], seed: int | None = None) -> Batches:
        """Batches of recordings, of like length."""

        def collate(chosen: np.ndarray) -> Batch:
            some = [rows[n] for n in chosen]
            scaled = [((row.numbers[:, :NUMBERS] - self.mean) / self.deviation).astype(np.float32) for row in some]
            logs = [(np.log1p(row.durations) - self.length_mean) / self.length_deviation for row in some]
            return Batch(
                torch.from_numpy(pad([row.symbols for row in some])),
                torch.tensor([len(row.symbols) for row in some]),
                torch.from_numpy(pad([row.durations for row in some])),
                torch.from_numpy(pad(logs)).float(),
                torch.from_numpy(pad(scaled)),
                torch.from_numpy(pad([row.numbers[:, NUMBERS] for row in some])),
                torch.tensor([len(row.numbers) for row in some]),
                torch.from_numpy(self.deviation),
                self.config.rate,
                [row.text for row in some],
            )

        return Batches([len(row.numbers) for row in rows], self.config.training.batch_size, collate, seed)


# Network and loss


class Network(nn.Module):
    """An LSTM over characters that tells their lengths, and what reads the frames they last."""

    def __init__(self, config: Config, characters: int) -> None:
        super().__init__()
        E, H = config.embedding_size, config.hidden_size
        self.embedding = nn.Embedding(characters, E)
        self.characters = LSTM(E, H, bidirectional=True, variant=config.variant)
        self.length = nn.Linear(2 * H, 1)
        self.dropout = nn.Dropout(config.dropout)
        self.frames = FrameReader(E, H, NUMBERS + 1, config.dropout, config.network == "lstm", config.variant)

    def lengths(self, text: Tensor, text_lengths: Tensor) -> Tensor:
        """Scaled log lengths of the characters [U, B]."""
        read, _ = self.characters(self.embedding(text), lengths=text_lengths)
        scaled: Tensor = self.length(self.dropout(read)).squeeze(-1)
        return scaled

    def forward(self, text: Tensor, durations: Tensor, lengths: Tensor) -> Tensor:
        """The scaled numbers of each frame, and a logit of its voicing [T, B, NUMBERS + 1]."""
        found: Tensor = self.frames(self.embedding(text), durations, lengths)
        return found


def network(config: Config, facts: dict[str, Any]) -> Network:
    """The untrained network."""
    return Network(config, len(Coder(config, facts).target))


def loss(config: Config, network: Any, batch: Batch, carried: None) -> Outcome:
    """Squared errors of the scaled numbers and of log lengths, the envelope's distortion, and nats of the voicing."""
    told = network(batch.text, batch.durations, batch.lengths)
    there = torch.arange(len(told))[:, None] < batch.lengths
    numbers, logits = told[there][:, :NUMBERS], told[there][:, NUMBERS]
    true, voiced = batch.numbers[there], batch.voiced[there]
    far = numbers - true
    of_envelope = (far * batch.scale)[:, 1:ENVELOPE].norm(dim=1).mean() / batch.scale[1:ENVELOPE].norm()
    of_voice = far.square().mean() + of_envelope + binary_cross_entropy_with_logits(logits, voiced)
    spoken = torch.arange(len(batch.text))[:, None] < batch.text_lengths
    of_length = (network.lengths(batch.text, batch.text_lengths) - batch.log_lengths)[spoken].square().mean()
    count = int(batch.lengths.sum())
    total = of_voice + of_length
    sums: Sums = {"loss": total.detach().double() * count, "frames": count}
    if not network.training:
        scaled = [(part * batch.scale).detach().numpy() for part in (numbers, true)]
        pitches = (scaled[0][:, ENVELOPE] - scaled[1][:, ENVELOPE])[voiced.numpy() > 0.5]
        sums |= {
            "decibels": float(voice.distortion(scaled[0][:, :ENVELOPE], scaled[1][:, :ENVELOPE], batch.rate).sum()),
            "semitones": float(np.square(12 * pitches / np.log(2)).sum()),
            "pitched": len(pitches),
            "voiced_wrong": int(((logits > 0) != (voiced > 0.5)).sum()),
        }
    return Outcome(total, count, sums)


def scores(sums: dict[str, Any]) -> dict[str, float]:
    """The loss; in validation and test distortion, and errors of pitch and voicing."""
    found = {"loss": sums["loss"] / sums["frames"]}
    if "decibels" in sums:
        found["mcd"] = sums["decibels"] / sums["frames"]
        found["pitch_error"] = (sums["semitones"] / max(1, sums["pitched"])) ** 0.5
        found["voicing_error"] = sums["voiced_wrong"] / sums["frames"]
    return found


# Speaking


@dataclass(kw_only=True)
class EvaluateOptions:
    """Score voices, and how well what is spoken is understood."""

    recogniser: str = ""
    """The folder of a run of speech-recognition, which listens."""

    def __post_init__(self) -> None:
        check(self)


def evaluate(model: Model, split: Batches, options: EvaluateOptions) -> dict[str, float]:
    """Scores of voices; with a recogniser its errors on what is spoken, and on the recordings out of the vocoder."""
    found = score(model.task, model.config, model.network, split)
    if not options.recogniser:
        return found
    reader = bundle.read(Path(options.recogniser), speech_recognition)
    coder, said, spoken, recorded = Coder(model.config, model.facts), list[str](), list[str](), list[str]()
    for index in range(len(split)):
        batch = split.batch(0, index)
        for b, text in enumerate(batch.texts):
            length = int(batch.lengths[b])
            numbers = torch.cat([batch.numbers[:length, b], batch.voiced[:length, b, None]], 1).numpy()
            own = voice.synthesise(_voice(coder, numbers), model.config.rate)
            said.append(text.lower())
            spoken += [one.text for one in _hear(reader, _speak(model, coder, text).samples, model.config.rate)]
            recorded += [one.text for one in _hear(reader, own, model.config.rate)]
    read = {
        name: spelling.rates(spelling.errors(texts, said)) for name, texts in (("", spoken), ("_recorded", recorded))
    }
    return found | {f"cer{name}": rates["cer"] for name, rates in read.items()}


def _hear(reader: Model, samples: np.ndarray, rate: int) -> list[Any]:
    if reader.config.rate != rate:
        raise ConveyorError(
            f"[evaluate] --recogniser: expected one that hears {rate} samples a second, got {reader.config.rate}"
        )
    [heard] = reader.predict(samples)
    return list(heard)


@dataclass(kw_only=True)
class PredictOptions:
    """Speak texts."""

    speed: Annotated[float, Range("a number from 0.1 to 10", 0.1, 10)] = 1.0
    """How fast; 2 is twice as fast."""

    def __post_init__(self) -> None:
        check(self)


@dataclass
class Spoken:
    """A text, spoken."""

    text: str
    samples: np.ndarray
    rate: int
    frames: np.ndarray
    """The envelope [T, ENVELOPE]."""
    words: list[tuple[str, float, float]]
    """Each with the second it begins at and the one it ends at."""
    lasting: np.ndarray
    """Frames of each character, and of the silences around them."""

    def __str__(self) -> str:
        return f"{self.text}: {len(self.samples) / self.rate:.2f} s; hear it with -o"


def predict(model: Model, inputs: Sequence[Any], options: PredictOptions, bad: BadRecords) -> list[Spoken]:
    """Each text, spoken."""
    coder, found = Coder(model.config, model.facts), []
    for one in inputs:
        with bad.record():
            if not isinstance(one, str):
                raise ConveyorError(f"[predict] expected a text, got {one!r:.40}")
            found.append(_speak(model, coder, one, options.speed))
    return found


@torch.inference_mode()
def _speak(model: Model, coder: Coder, text: str, speed: float = 1.0) -> Spoken:
    network: Any = model.network
    symbols = coder.text(text)
    given, count = torch.from_numpy(symbols)[:, None], torch.tensor([len(symbols)])
    frames = np.maximum(1, (coder.durations(network.lengths(given, count)[:, 0].numpy()) / speed).round()).astype(int)
    told = network(given, torch.from_numpy(frames)[:, None], torch.tensor([frames.sum()]))[:, 0].numpy()
    own = _voice(coder, np.concatenate([told[:, :NUMBERS], told[:, NUMBERS:] > 0], 1))
    ends = frames.cumsum() * voice.PERIOD
    words, begun = list[tuple[str, float, float]](), False
    for n, symbol in enumerate(symbols.tolist()[1:-1], 1):
        character = coder.target.tokens.decode([symbol - 1])
        if character.isspace():
            begun = False
        elif begun:
            words[-1] = (words[-1][0] + character, words[-1][1], ends[n])
        else:
            words.append((character, ends[n - 1], ends[n]))
            begun = True
    return Spoken(text, voice.synthesise(own, model.config.rate), model.config.rate, own.envelope, words, frames)


def steps(model: Model, input: Any) -> Iterator[Steps]:
    """A text, frame by frame of what is said, by the character that sounds; its lengths are read by character."""
    coder = Coder(model.config, model.facts)
    symbols = coder.text(input).tolist()
    characters = ["–", *coder.target.pieces(range(1, len(coder.target)))]
    yield Steps([characters[n] for n in symbols], of="characters")
    lasting = _speak(model, coder, input).lasting.tolist()
    yield Steps([characters[n] for n, count in zip(symbols, lasting, strict=True) for _ in range(count)])


def _voice(coder: Coder, numbers: np.ndarray) -> Voice:
    """Of scaled numbers and voicing [T, NUMBERS + 1]."""
    plain = numbers[:, :NUMBERS] * coder.deviation + coder.mean
    return Voice(plain[:, :ENVELOPE], plain[:, ENVELOPE], numbers[:, NUMBERS], plain[:, ENVELOPE + 1 :])


def save(results: list[Spoken], path: Path) -> None:
    """The texts one after the other (.wav), or their envelopes over time (.png)."""
    if path.suffix == ".png":
        shown = results[:4]
        sound_picture.draw(path, [one.frames for one in shown], [one.words for one in shown], voice.PERIOD)
    else:
        files.write(path, voice.wav(np.concatenate([one.samples for one in results]), results[0].rate))


def show(model: Model, data: Data, folder: Path) -> str:
    """A text of the test part spoken, and its envelope below that of the recording."""
    coder, batch = Coder(model.config, model.facts), data.test.batch(0, len(data.test) // 2)
    length, text = int(batch.lengths[0]), batch.texts[0]
    spoken = _speak(model, coder, text)
    own = batch.numbers[:length, 0, :ENVELOPE].numpy() * coder.deviation[:ENVELOPE] + coder.mean[:ENVELOPE]
    sound_picture.draw(folder / "spoken.png", [own, spoken.frames], [[], spoken.words], voice.PERIOD)
    files.write(folder / "spoken.wav", voice.wav(spoken.samples, spoken.rate))
    return f'"{text}", [spoken](spoken.wav); above it the recording:\n\n![Envelopes](spoken.png)\n'


def smoke(folder: Path) -> Smoke:
    """Two vowels of a hummed voice, and a recogniser that aligns them as it happens to."""
    random, rows = np.random.default_rng(0), ["file,text"]
    t, tones = np.arange(3200) / 16_000, 130 * np.arange(1, 20)
    for n in range(20):
        text = "".join(random.choice(["a", "o"], 3))
        loud = [np.exp(-(((tones - {"a": 800, "o": 400}[letter]) / 300) ** 2)) for letter in text]
        parts = [(np.sin(2 * np.pi * np.outer(t, tones)) * own).sum(1) * np.hanning(len(t)) for own in loud]
        samples = 0.2 * np.concatenate([np.zeros(1600), *parts, np.zeros(1600)])
        files.write(folder / f"{n:02}.wav", voice.wav(samples + random.normal(0, 0.001, len(samples)), 16_000))
        rows.append(f"{n:02}.wav,{text}")
    files.write(folder / "texts.csv", ("\n".join(rows) + "\n").encode())
    reading = ReadingOptions(data=(str(folder / "texts.csv"),))
    hears = speech_recognition.Config(hidden_size=16, layers=1, reading=reading)
    facts = speech_recognition.read(hears).facts
    bundle.write_description(folder / "aligner", "speech-recognition", hears, facts)
    bundle.write_weights(folder / "aligner", speech_recognition.network(hears, facts))
    config = Config(
        aligner=str(folder / "aligner"), hidden_size=16, dropout=0.0, reading=reading,
        training=TrainingOptions(batch_size=4, epochs=3, learning_rate=0.01),
    )  # fmt: skip
    return Smoke(config, ("aoa",))
