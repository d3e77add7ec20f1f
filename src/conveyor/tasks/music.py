"""Music: which keys of a piano sound next.

The task, as in N. Boulanger-Lewandowski, Y. Bengio & P. Vincent 2012 (Modeling Temporal Dependencies in
High-Dimensional Sequences, arXiv 1206.6392): read a piano roll frame by frame and give each chord that may come next
its probability. With the `independent` head every key has its own, given the frames before; with the `nade` head a key
also depends on the keys below it in the same frame, as notes of a chord do.

    conveyor train music --data FOLDER_OF_MIDI --steps-per-beat 4
    conveyor evaluate runs/music/TIME
    conveyor predict runs/music/TIME beginning.mid -o continued.mid       (`-` in place of a file: out of nothing)

Data: MIDI files, folders of them, or a `.mat` with piano rolls (`conveyor.data.piano_rolls` says how they are read).

JSB Chorales, independent keys (test 8.38 nats a frame in 5 minutes; the LSTM of Bai et al. 2018 has 8.45):

    conveyor train music --data poly_music/JSB_Chorales.mat --steps-per-beat 1 --head independent --transpose 6
        --hidden-size 384 --dropout-output 0.3 --batch-size 4 --learning-rate 0.002 --schedule cosine --epochs 120

JSB Chorales, a key given those below it (test 5.88 in 3 minutes):

    conveyor train music --data poly_music/JSB_Chorales.mat --steps-per-beat 1 --head nade --transpose 6
        --hidden-size 256 --dropout-output 0.4 --batch-size 16 --learning-rate 0.003 --schedule cosine --epochs 120

Nottingham, independent keys (test 3.11 in 26 minutes; the LSTM of Bai et al. has 3.29):

    conveyor train music --data poly_music/Nottingham.mat --steps-per-beat 2 --head independent --transpose 5
        --hidden-size 512 --dropout-output 0.3 --batch-size 8 --learning-rate 0.003 --schedule cosine --epochs 80

Nottingham, a key given those below it (test 2.79 in 4 minutes):

    conveyor train music --data poly_music/Nottingham.mat --steps-per-beat 2 --head nade --transpose 5
        --hidden-size 256 --nade-size 128 --dropout-output 0.1 --batch-size 4 --learning-rate 0.003 --schedule cosine
        --epochs 14

Scores: `loss`, nats a frame: minus the log of the probability of all 88 keys, summed over all frames but the first of
each piece, divided by their number (Bai, Kolter & Koltun 2018, arXiv 1803.01271); `loss_with_first` counts the first
frames too, predicted out of nothing. Both are means over frames, not over pieces. `accuracy`: TP / (TP + FP + FN) over
the frames of `loss` (Bay, Ehmann & Downie 2009); a key is predicted where its probability is above one half, given the
frames before and, with the `nade` head, the predictions for the keys below. Each piece is read from its start with the
state at zero.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from conveyor.data import midi, piano_rolls
from conveyor.data.batches import Batches
from conveyor.data.midi import KEYS, Roll
from conveyor.data.piano_rolls import Batch, batches, cut, transposed
from conveyor.data.records import BadRecords
from conveyor.errors import ConveyorError
from conveyor.interchange import modules
from conveyor.interchange.graph import Graph
from conveyor.nn import LSTM
from conveyor.nn.nade import NADE, decided
from conveyor.training import files, pictures
from conveyor.training.options import (
    Count,
    Depth,
    NotNegative,
    Number,
    Positive,
    ReadingOptions,
    Share,
    Size,
    TrainingOptions,
    VariantName,
    Whole,
    check,
)
from conveyor.training.task import Data, Model, Outcome, Smoke, Steps, Sums
from conveyor.variant import variant_named

UNIT = "frames"
ENDINGS: tuple[str, ...] = (".mid", ".midi", ".json")

State = Any
"""(h, c) of the LSTM; of an ensemble, a list of them."""


@dataclass(kw_only=True)
class Config:
    """Train a model of polyphonic music.

    Data: MIDI files or folders of them (with folders train, valid and test in it, a folder is taken as split so), or
    one .mat file with traindata, validdata and testdata. --limit counts pieces of each part.
    """

    steps_per_beat: Count = 4
    """Frames a beat, which is a quarter note: how finely MIDI is cut, and how fast what is composed is played."""
    head: Literal["independent", "nade"] = "nade"
    """What keys of a frame know of each other: nothing, or a key what is below it."""
    hidden_size: Size = 256
    """Units in a layer."""
    layers: Depth = 1
    """Layers, one upon the other."""
    variant: VariantName = "lstm"
    """Which LSTM: a name in `conveyor.VARIANTS` (docs/variants.md)."""
    nade_size: Size = 128
    """Hidden units of the nade head."""
    transpose: Whole = 0
    """Move each piece of a training batch by so many semitones or fewer, up or down, drawn anew each time; no note
    leaves the keys."""
    dropout_input: Share = 0.0
    """Share of the sounding keys not told to the LSTM."""
    dropout_between: Share = 0.0
    """Share dropped between layers."""
    dropout_recurrent: Share = 0.0
    """Share of a layer's output not told to its next step, the same at all steps of a piece (Gal & Ghahramani 2016)."""
    dropout_output: Share = 0.0
    """Share dropped before the head."""
    dropout_nade: Share = 0.0
    """Share of the nade head's hidden units dropped."""
    forget_bias: Number | None = 1.0
    """Bias of the forget gates at the start, where there are some; None leaves it as drawn."""
    sequence_length: Count = 500
    """Most frames of back-propagation through time: longer pieces are cut for training."""
    reading: ReadingOptions = field(default_factory=ReadingOptions)
    training: TrainingOptions = field(default_factory=lambda: TrainingOptions(batch_size=16))

    def __post_init__(self) -> None:
        check(self, self._conflicts)

    def _conflicts(self) -> Iterator[str]:
        if self.dropout_between and self.layers == 1:
            yield "--dropout-between: expected --layers 2 or more"
        if self.sequence_length < 3:
            yield f"--sequence-length: expected 3 or more, got {self.sequence_length}"


# Reading


def read(config: Config, facts: dict[str, Any] | None = None) -> Data:
    """Read and split the pieces."""
    reading = config.reading
    if not reading.data:
        raise ConveyorError("[data] expected music, got none; give --data with MIDI files, a folder or a .mat file")
    bad = BadRecords(reading.skip_bad)
    shares = reading.valid_share, reading.test_share
    parts = piano_rolls.read_parts(list(map(Path, reading.data)), config.steps_per_beat, shares, reading.limit, bad)
    for name, part in zip(parts._fields, parts, strict=True):
        if not part:
            raise ConveyorError(f"[data] the {name} part has no piece; give more, or other shares{bad.summary()}")
    digest = hashlib.sha256(b"".join(piece.tobytes() + b"/" for part in parts for piece in part)).hexdigest()
    if facts is None:
        facts = {"sha256": digest}
    elif facts.get("sha256") != digest:
        raise ConveyorError("[data] the music is not that which this run was trained on; restore it, or start anew")
    size = config.training.batch_size
    train = batches(cut(parts.train, config.sequence_length), size, seed=config.training.seed)
    pieces = " + ".join(f"{len(part):,}" for part in parts)
    frames = " + ".join(f"{sum(map(len, part)):,}" for part in parts)
    summary = f"{pieces} pieces, {frames} frames to train, validate, test{bad.summary()}"
    return Data(train, batches(parts.valid, size), batches(parts.test, size), facts, summary)


def read_test(config: Config, facts: dict[str, Any], data: Sequence[str], bad: BadRecords) -> Batches:
    """Other pieces, or the test part of data that say what is what."""
    pieces = piano_rolls.read_test(list(map(Path, data)), config.steps_per_beat, bad)
    if not pieces:
        raise ConveyorError(f"[data] {', '.join(data)}: no piece{bad.summary()}")
    return batches(pieces, config.training.batch_size)


# Network and loss


class Network(nn.Module):
    """LSTM over frames, and the distribution of the next frame; time goes first."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        variant = variant_named(config.variant)
        if config.dropout_recurrent:
            variant = replace(variant, variational_dropout=config.dropout_recurrent)
        H, bias = config.hidden_size, config.forget_bias if "f" in variant.gates else None
        self.lstm = LSTM(KEYS, H, config.layers, dropout=config.dropout_between, variant=variant, forget_bias=bias)
        self.dropout_input = nn.Dropout(config.dropout_input)
        self.dropout_output = nn.Dropout(config.dropout_output)
        self.nade = NADE(KEYS, config.nade_size, config.dropout_nade) if config.head == "nade" else None
        self.biases = nn.Linear(H, KEYS + (config.nade_size if self.nade else 0))
        nn.init.constant_(self.biases.bias[:KEYS], -3.0)  # about 4 of 88 keys sound: nothing to learn first

    def forward(self, frames: Tensor, lengths: Tensor | None = None, state: State = None) -> tuple[Tensor, State]:
        """Frames [T, B, 88] and a state to what is known of the frame behind each, [T, B, K], and the next state."""
        hidden, state = self.lstm(self.dropout_input(frames), state, lengths=lengths)
        return self.dropout_output(hidden), state

    def logits(self, known: Tensor, frames: Tensor) -> Tensor:
        """Logits [N, 88] of each key, given what is known [N, K] and in `frames` [N, 88] the keys below it."""
        biases = self.biases(known)
        logits: Tensor = self.nade(frames, biases[:, :KEYS], biases[:, KEYS:]) if self.nade else biases
        return logits


def graph(model: Model) -> Graph:
    """The keys that sound to logits of those of the next step, each by itself."""
    network = modules.expect(model.network, Network)
    if network.nade is not None:
        raise ConveyorError("[export] expected a run with --head independent: there are no nodes for NADE")
    graph = Graph(features=KEYS)
    modules.linear(graph, modules.recurrent(graph, 0, network.lstm), network.biases)
    return graph


class Ensemble(nn.Module):
    """Several networks as one: the mean of their probabilities, key by key."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, frames: Tensor, lengths: Tensor | None = None, state: State = None) -> tuple[Tensor, State]:
        """As of one, what each knows in a row behind the other."""
        states = state or [None] * len(self.networks)
        each = [network(frames, lengths, own) for network, own in zip(self.networks, states, strict=True)]
        return torch.stack([known for known, _ in each], 2).flatten(2), [own for _, own in each]

    def logits(self, known: Tensor, frames: Tensor) -> Tensor:
        """As of one."""
        networks: list[Any] = list(self.networks)
        parts = zip(networks, known.chunk(len(networks), 1), strict=True)
        logits = torch.stack([network.logits(part, frames) for network, part in parts])
        return logsigmoid(logits).logsumexp(0) - logsigmoid(-logits).logsumexp(0)  # log p̄ - log (1 - p̄)


def network(config: Config, facts: dict[str, Any]) -> Network:
    """The untrained network."""
    return Network(config)


def ensemble(networks: Sequence[nn.Module]) -> Ensemble:
    """Several trained networks as one."""
    return Ensemble(networks)


def loss(config: Config, network: Any, batch: Batch, carried: None) -> Outcome:
    """Nats a frame over all frames, the first ones among them; and, when not training, what was predicted right."""
    training = network.training
    frames = transposed(batch.frames, config.transpose) if training and config.transpose else batch.frames
    before = torch.cat([torch.zeros_like(frames[:1]), frames[:-1]])  # the first frame comes out of silence
    known, _ = network(before, batch.lengths)
    real = torch.arange(len(frames), device=frames.device).unsqueeze(1) < batch.lengths
    known, target = known[real], frames[real]  # [N, ...], N the number of frames, the first ones in front
    logits = network.logits(known, target)
    nats = binary_cross_entropy_with_logits(logits, target, reduction="none").sum(1)
    B, N = len(batch.lengths), len(target)
    totals = nats.detach().double()
    sums: Sums = {"nats": totals[B:].sum(), "frames": N - B, "nats_first": totals[:B].sum(), "first": B}
    if not training:
        sums |= agreement(decided(partial(network.logits, known[B:]), torch.zeros_like(target[B:])), target[B:])
    return Outcome(nats.mean(), N, sums)


def agreement(predicted: Tensor, target: Tensor) -> Sums:
    """Keys that sound in both, and in either."""
    return {"both": (predicted * target).sum().double(), "either": predicted.maximum(target).sum().double()}


def scores(sums: dict[str, Any]) -> dict[str, float]:
    """Nats a frame, without the first frames and with them; accuracy, when it was counted."""
    together = (sums["nats"] + sums["nats_first"]) / (sums["frames"] + sums["first"])
    figures = {"loss": sums["nats"] / sums["frames"], "loss_with_first": together}
    return figures | ({"accuracy": sums["both"] / max(sums["either"], 1)} if "either" in sums else {})


# Prediction


@dataclass(kw_only=True)
class PredictOptions:
    """Continue pieces of music, MIDI files or folders of them; `-` stands for a piece out of nothing."""

    length: Whole = 64
    """Frames to go on with."""
    given: Count | None = None
    """Continue only so many frames of the beginning, not the whole piece."""
    temperature: NotNegative = 1.0
    """Below 1 the likely becomes likelier; 0 always takes the likelier, key by key."""
    tempo: Positive | None = None
    """Beats a minute; if not given, those the piece begins with."""
    seed: Whole = 1
    """Start of the random numbers."""

    def __post_init__(self) -> None:
        check(self)


@dataclass
class Continuation:
    """A piece and how it goes on."""

    name: str
    given: int
    """Frames that were given; those behind are composed."""
    roll: Roll
    steps_per_beat: int

    def __str__(self) -> str:
        """The piece as text, a column a frame, what was given fainter; from its last 16 frames on."""
        first = max(0, self.given - 16)
        shown = self.roll.frames[first:]
        title = f"{self.name}: {self.given:,} frames given, {len(self.roll.frames) - self.given:,} composed"
        marks = np.where(np.arange(len(shown)) + first < self.given, "░", "█")
        used = np.flatnonzero(shown.any(0))
        keys = range(used.max(), used.min() - 1, -1) if len(used) else ()
        rows = (f"{midi.name_of(k):>4} " + "".join(np.where(shown[:, k], marks, "·")) for k in keys)
        return "\n".join([title, *rows])


def predict(model: Model, inputs: Sequence[str | Path], options: PredictOptions, bad: BadRecords) -> list[Continuation]:
    """Continue each piece."""
    generator = torch.Generator().manual_seed(options.seed)  # one for all: twice out of nothing are two pieces
    names = [name for given in inputs for name in ([given] if given == "-" else piano_rolls.found([Path(given)]))]
    pieces: list[Continuation] = []
    for name in names:
        with bad.record():
            pieces.append(_continue(model, str(name), options, generator))
    return pieces


@torch.inference_mode()
def steps(model: Model, input: str) -> Iterator[Steps]:
    """A piece, step by step, by the names of the keys that sound; at each the keys of the next are expected."""
    roll = midi.read(Path(input), model.config.steps_per_beat)
    frames = torch.from_numpy(roll.frames).float().unsqueeze(1)
    network: Any = model.network
    known, _ = network(frames)
    after = torch.cat([frames[1:, 0], torch.zeros(1, KEYS)])
    p = torch.sigmoid(network.logits(known.flatten(0, 1), after)).view(-1, KEYS)
    sounding = ["+".join(midi.name_of(key) for key in np.flatnonzero(frame).tolist()) or "–" for frame in roll.frames]
    names = [midi.name_of(key) for key in range(KEYS)]
    yield Steps([f"{one} " for one in sounding], names, lambda: p)


def _continue(model: Model, name: str, options: PredictOptions, generator: torch.Generator) -> Continuation:
    steps = model.config.steps_per_beat
    nothing = Roll(np.zeros((0, KEYS), np.uint8), midi.TEMPO)
    roll = nothing if name == "-" else midi.read(Path(name), steps)
    given = roll.frames[: options.given]
    composed = compose(model.network, given, options.length, options.temperature, generator)
    frames = np.concatenate([given, composed])
    return Continuation(name, len(given), Roll(frames, options.tempo or roll.tempo), steps)


@torch.inference_mode()
def compose(network: Any, given: np.ndarray, length: int, temperature: float, generator: torch.Generator) -> np.ndarray:
    """So many frames to follow those given, each drawn from its distribution."""
    frames, state = torch.from_numpy(np.pad(given, ((1, 0), (0, 0)))).float().unsqueeze(1), None
    composed = [np.zeros((0, KEYS), np.uint8)]
    for _ in range(length):
        known, state = network(frames, None, state)
        u = torch.rand(1, KEYS, generator=generator, dtype=torch.float64).clamp(1e-12, 1 - 1e-12)
        # p > u, or logit p / temperature > logit u
        threshold = temperature * u.logit().float()
        frames = decided(partial(network.logits, known[-1]), threshold).unsqueeze(0)
        composed.append(frames[0].numpy().astype(np.uint8))
    return np.concatenate(composed)


def save(results: list[Continuation], path: Path) -> None:
    """One MIDI file; several pieces follow one another there, each on a track of its own with its name. As `.json`
    the frames, each as a list of MIDI's note numbers."""
    if path.suffix == ".json":
        files.write_json(path, [_plain(result) for result in results])
        return
    rolls, names = [result.roll for result in results], [result.name for result in results]
    files.write(path, midi.write(rolls, names, results[0].steps_per_beat if results else 1))


def _plain(result: Continuation) -> dict[str, Any]:
    notes = [(np.flatnonzero(frame) + midi.LOWEST).tolist() for frame in result.roll.frames]
    beats = {"tempo": result.roll.tempo, "steps_per_beat": result.steps_per_beat}
    return {"name": result.name, "given": result.given, **beats, "frames": notes}


# Report


def show(model: Model, data: Data, folder: Path) -> str:
    """A piece of the test part with the probabilities of its keys, and another way to go on from its middle."""
    batch: Batch = data.test.batch(0, len(data.test) // 2)
    piece = batch.frames[: min(int(batch.lengths[0]), 128), 0]
    given = len(piece) // 2
    p = probabilities(model.network, piece)
    generator = torch.Generator().manual_seed(1)
    beginning = piece[:given].numpy().astype(np.uint8)
    composed = compose(model.network, beginning, len(piece) - given, 1.0, generator)
    frames = np.concatenate([beginning, composed])
    _draw(folder / "piano-roll.png", piece.numpy(), p.numpy(), frames, given)
    name = "composed.mid"
    files.write(folder / name, midi.write([Roll(frames, 100.0)], [name], model.config.steps_per_beat))
    return (
        f"A piece of the test part, {len(piece)} frames of it; how probable each key was, given all before; and "
        f"another way to go on from frame {given}: [{name}]({name}).\n\n![Piano rolls](piano-roll.png)\n"
    )


@torch.inference_mode()
def probabilities(network: Any, piece: Tensor) -> Tensor:
    """How probable each key of a piece [T, 88] was, given the frames before and the keys below."""
    before = torch.cat([torch.zeros_like(piece[:1]), piece[:-1]])
    known, _ = network(before.unsqueeze(1))
    logits: Tensor = network.logits(known[:, 0], piece)
    return logits.sigmoid()


def _draw(path: Path, piece: np.ndarray, p: np.ndarray, composed: np.ndarray, given: int) -> None:
    used = np.flatnonzero(piece.any(0) | composed.any(0))
    low, high = max(used.min() - 2, 0), min(used.max() + 3, KEYS)
    faint = np.where(np.arange(len(composed)) < given, 0.45, 1.0)[:, None]
    panels = {"as it is": piece, "probability of each key": p, f"composed from frame {given} on": composed * faint}
    figure = pictures.figure(9, 8)
    for axes, (title, values) in zip(figure.subplots(len(panels), sharex=True), panels.items(), strict=True):
        extent = (0, len(values), low - 0.5, high - 0.5)
        axes.imshow(
            values[:, low:high].T, cmap="Blues", vmin=0, vmax=1, aspect="auto", origin="lower", extent=extent,
            interpolation="nearest",
        )  # fmt: skip
        octaves = [key for key in range(low, high) if (key + midi.LOWEST) % 12 == 0]
        axes.set_yticks(octaves, [midi.name_of(key) for key in octaves])
        axes.set_title(title, loc="left", fontsize=10)
        axes.grid(alpha=0.3, linewidth=0.5)
        axes.axvline(given, color="firebrick", linewidth=0.8)
    axes.set_xlabel("frame")
    pictures.write(path, figure)


def smoke(folder: Path) -> Smoke:
    """Three chords over and over, in four keys."""
    chords = [[0, 4, 7], [5, 9, 12], [7, 11, 14], [0, 4, 7]]
    frames = np.zeros((32, KEYS), np.uint8)
    for n in range(32):
        frames[n, 30 + np.array(chords[n // 2 % 4])] = 1
    for number in range(20):
        roll = Roll(np.roll(frames, number % 4, 1), 100.0)
        files.write(folder / f"{number:02}.mid", midi.write([roll], [f"piece {number}"], 2))
    reading = ReadingOptions(data=(str(folder),))
    training = TrainingOptions(batch_size=2, epochs=8, learning_rate=0.03, schedule="cosine")
    config = Config(steps_per_beat=2, hidden_size=32, nade_size=16, reading=reading, training=training)
    return Smoke(config, (str(folder / "00.mid"), "-"))
