r"""Video captioning: what is said or shown in a video, in words.

The task: of frames x_1 … x_T write the caption y_1 … y_U. A small convolutional network sees each frame between its
neighbours, or an image encoder in ONNX has seen each by itself; an LSTM in both directions reads the frames, and an
LSTM writes the caption with attention over them (S. Venugopalan et al. 2015, 10.1109/ICCV.2015.515, with the attention
of L. Yao et al. 2015, 10.1109/ICCV.2015.512). Where words follow frames in order, as on a speaker's lips, connectionist
temporal classification helps to find which frames are which words (A. Graves et al. 2006, 10.1145/1143844.1143891), and
can write the caption as well.

    conveyor train video-captioning --data videos/ captions.csv
    conveyor evaluate runs/video-captioning/TIME
    conveyor predict runs/video-captioning/TIME video.mp4 -o video.png

Data: videos that PyAV decodes, and CSV with the columns video, and caption or word; with the columns start_frame and
end_frame a row is a part of its video. Where there are captions of whole videos and of parts, such as words cut out,
the parts only help in training (Y. Assael et al. 2016, arXiv:1611.01599). A share of the videos, drawn from
--split-seed, validates and tests.

GRID (M. Cooke et al. 2006, 10.1121/1.2229005), speaker 1, 1,000 videos of a mouth, --split-seed 0: of 100 sentences
4.8 % of the words are wrong (82.0 % if each place has its most frequent word), in 37 minutes on one core; of 600 words
cut out 87.2 % are right, in 26 minutes (M. Wand, J. Koutník & J. Schmidhuber 2016, arXiv 1601.08188, an LSTM for each
of 19 speakers: 79.6 %):

    conveyor train video-captioning --data grid_s1/videos grid_s1/captions.csv grid_s1/words.csv --leave-out sil sp \
        --batch-size 4 --epochs 75 --average-decay 0.998 --matmul-precision medium --threads 1
    conveyor train video-captioning --data grid_s1/videos grid_s1/words.csv --leave-out sil sp --ctc-weight 0 \
        --batch-size 32 --epochs 110 --average-decay 0.99 --matmul-precision medium --threads 1

Scores: `loss`, nats a word; `wer`, the word error rate by jiwer: words that are wrong, too many or missing over all
words, in per cent; `exact`, the share of captions that are right in all words; `wer_prior` and `exact_prior`, those of
a writer that sees nothing and always says the word that training has most often in each place.
"""

from __future__ import annotations

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import jiwer
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from conveyor.data import videos
from conveyor.data.batches import Batches, pad
from conveyor.data.records import BadRecords
from conveyor.data.videos import Clip
from conveyor.data.written import BOUNDARY, NOTHING, Teacher, Written
from conveyor.errors import ConveyorError
from conveyor.nn.beam_search import Hypothesis, beam_search
from conveyor.nn.ctc import best_path, ctc_loss
from conveyor.nn.decoder import Decoder
from conveyor.nn.encoder import Encoder
from conveyor.nn.frames import FrameCNN, FrameFeatures
from conveyor.training import files, kept, key_frames
from conveyor.training.features import Encoder as ImageEncoder
from conveyor.training.options import (
    Count,
    Depth,
    ReadingOptions,
    Share,
    Size,
    TrainingOptions,
    VariantName,
    Whole,
    check,
)
from conveyor.training.scoring import add
from conveyor.training.task import Data, Model, Outcome, Smoke, Steps, Sums

UNIT = "frames"
ENDINGS: tuple[str, ...] = (".csv", ".json", ".txt", ".png")


@dataclass(kw_only=True)
class Config:
    """Train a writer of captions of videos.

    Data: folders of videos, and CSV with the columns video, and caption or word. --limit counts captions.
    """

    encoder: str = ""
    """An image encoder in ONNX, with a feature map among its outputs; without one a small CNN is trained along."""
    image_size: Size = 224
    """Pixels that the encoder sees of a frame, across and down."""
    width: Size = 48
    """Pixels that the small CNN sees, across."""
    height: Size = 32
    """And down."""
    longest: Count = 1000
    """Most frames of a clip; longer ones are a mistake."""
    leave_out: tuple[str, ...] = ()
    """Captions that are no captions: sil sp."""
    split_seed: Whole = 0
    """Which videos validate and test is drawn from this."""
    vocabulary: Count = 5_000
    """Most words told apart."""
    embedding_size: Size = 64
    """Numbers that stand for a word."""
    hidden_size: Size = 128
    """Units of a layer, of those that read in each direction."""
    encoder_layers: Depth = 2
    """Layers that read."""
    ctc_weight: Share = 0.5
    """Share of the loss that is of connectionist temporal classification, the rest of the decoder."""
    decode: Literal["attention", "ctc"] = "attention"
    """What writes the captions; ctc needs a --ctc-weight."""
    shift: Whole = 2
    """Pixels by which training moves a clip, at most."""
    mirror: bool = True
    """Show training half of the clips turned round, left to right, where that says the same."""
    variant: VariantName = "lstm"
    """Which LSTM: a name in `conveyor.VARIANTS` (docs/variants.md)."""
    dropout: Share = 0.4
    """Share dropped of features, between layers, and of outputs."""
    label_smoothing: Share = 0.1
    """Share of the probability that training spreads over all words."""
    reading: ReadingOptions = field(default_factory=ReadingOptions)
    training: TrainingOptions = field(
        default_factory=lambda: TrainingOptions(
            batch_size=16, epochs=100, learning_rate=0.001, schedule="cosine", average="ema", average_decay=0.99
        )
    )

    def __post_init__(self) -> None:
        check(
            self,
            lambda: ["--decode ctc: expected a --ctc-weight"] if self.decode == "ctc" and not self.ctc_weight else [],
        )


# Reading


class Batch(NamedTuple):
    """Clips side by side; time goes first."""

    frames: Tensor
    """[T, B, height, width], 0 to 255"""
    lengths: Tensor
    """Frames of each [B]."""
    teacher: Teacher
    captions: list[str]
    target: Written
    """What makes texts of what is written."""
    prior: str
    """What is said most often."""
    features: Tensor | None = None
    """What the encoder made of the frames [T, B, D]."""
    parts: Batch | None = None
    """Of the same videos, in training."""


def read(config: Config, facts: dict[str, Any] | None = None) -> Data:
    """Read the clips of each part; the vocabulary is that of the training part, or of `facts`."""
    reading = config.reading
    if not reading.data:
        raise ConveyorError("[data] nothing to read; name a folder of videos and a CSV of captions with --data")
    bad = BadRecords(reading.skip_bad)
    clips = videos.read_clips([Path(path) for path in reading.data], config.leave_out, bad)
    split = videos.split(clips, reading.valid_share, reading.test_share, config.split_seed)
    parts = [videos.scored(part)[: reading.limit] for part in split]
    coder = Coder(config, facts or learn(config, parts[0]))
    frames = coder.decode([clip for part in parts for clip in part], bad)
    train = coder.batches(parts[0], frames, bad, config.training.seed, split[0] if parts[0][0].whole else ())
    valid, test = (coder.batches(part, frames, bad) for part in parts[1:])
    counts = " + ".join(f"{len(part.lengths):,}" for part in (train, valid, test))
    summary = f"{counts} clips of {len(frames):,} videos to train, validate, test; {len(coder.target):,} words"
    return Data(train, valid, test, coder.facts, summary + bad.summary())


def read_test(config: Config, facts: dict[str, Any], data: Sequence[str], bad: BadRecords) -> Batches:
    """Other clips."""
    clips = videos.scored(videos.read_clips([Path(path) for path in data], config.leave_out, bad))
    coder = Coder(config, facts)
    return coder.batches(clips, coder.decode(clips, bad), bad)


def decode(config: Config, clips: Sequence[Clip], bad: BadRecords) -> dict[Path, np.ndarray]:
    """The frames of each video that can be read, kept from run to run; one that cannot is read again to say why."""
    paths, size = sorted({clip.video for clip in clips}), (config.width, config.height)

    def compute() -> list[np.ndarray]:
        trial = BadRecords(bad.skip)
        found = [np.empty((0, config.height, config.width), np.uint8)]
        for path in paths:
            found.append(found[0])
            with trial.record():
                found[-1] = videos.read(path, *size)
        return [np.concatenate(found), np.cumsum([len(one) for one in found])]

    frames, ends = kept.arrays(kept.digest(paths, "grey frames", *size, bad.skip), ("frames", "ends"), compute)
    read = {path: frames[first:last] for path, first, last in zip(paths, ends[:-1], ends[1:], strict=True)}
    for path, shown in read.items():
        with bad.record():
            read[path] = shown if len(shown) else videos.read(path, *size)
    return {path: shown for path, shown in read.items() if len(shown)}


def see(encoder: ImageEncoder, paths: Sequence[Path]) -> dict[Path, np.ndarray]:
    """What an encoder makes of the frames of videos [T, D], kept from run to run."""

    def compute() -> list[np.ndarray]:
        found = [encoder.of_frames(videos.read(path, encoder.size, encoder.size, True)) for path in paths]
        return [np.concatenate(found), np.cumsum([len(one) for one in found])]

    key = kept.digest(paths, "frames", encoder.sha256, encoder.size)
    features, ends = kept.arrays(key, ("features", "ends"), compute)
    return dict(zip(paths, np.split(features, ends[:-1]), strict=True))


def learn(config: Config, clips: Sequence[Clip]) -> dict[str, Any]:
    """The facts: the words, and in each place the most frequent one."""
    captions = [clip.caption for clip in clips]
    words = Written.learn("word", captions, max(config.vocabulary, 4))
    count = Counter(len(caption.split()) for caption in captions).most_common(1)[0][0]
    places = [*zip_longest(*(caption.split() for caption in captions))][:count]
    prior = [Counter(filter(None, place)).most_common(1)[0][0] for place in places]
    encoder = ImageEncoder(config.encoder, config.image_size)
    return {
        "words": words.to_json(), "prior": " ".join(prior), "encoder": encoder.sha256, "features": sum(encoder.sizes)
    }  # fmt: skip


class Row(NamedTuple):
    """A clip as it is trained on."""

    video: Path
    seen: Seen
    caption: str
    words: np.ndarray


class Seen(NamedTuple):
    """A video, or a part of one."""

    frames: np.ndarray
    """[T, height, width]"""
    features: np.ndarray | None = None
    """What the encoder made of them [T, D]."""

    def of(self, clip: Clip) -> Seen:
        """Those of a clip."""
        return Seen(clip.frames(self.frames), None if self.features is None else clip.frames(self.features))


class Coder:
    """What makes tensors of clips."""

    def __init__(self, config: Config, facts: dict[str, Any]) -> None:
        self.config, self.facts = config, facts
        self.target = Written.from_json(facts.get("words"))
        if not isinstance(facts.get("prior"), str):
            raise ConveyorError("[model] prior: expected a caption; copy the model's file again")
        self.features = facts.get("features", 0)
        if not isinstance(self.features, int) or self.features < 0:
            raise ConveyorError("[model] features: expected a whole number; copy the model's file again")

    def encoder(self) -> ImageEncoder | None:
        """The encoder that the model was trained on, if it was on one."""
        if not self.config.encoder:
            return None
        encoder = ImageEncoder(self.config.encoder, self.config.image_size)
        if encoder.sha256 != self.facts.get("encoder"):
            raise ConveyorError(
                f"[encoder] {encoder.path}: this is not the encoder that the model was trained on; put that one there"
            )
        return encoder

    def decode(self, clips: Sequence[Clip], bad: BadRecords) -> dict[Path, Seen]:
        """The videos of clips that can be read."""
        frames, encoder = decode(self.config, clips, bad), self.encoder()
        features = see(encoder, [*frames]) if encoder else {}
        return {path: Seen(shown, features.get(path)) for path, shown in frames.items()}

    def watch(self, path: Path, encoder: ImageEncoder | None) -> Seen:
        """A video, read now."""
        frames = videos.read(path, self.config.width, self.config.height)
        if encoder is None:
            return Seen(frames)
        return Seen(frames, encoder.of_frames(videos.read(path, encoder.size, encoder.size, True)))

    def batches(
        self,
        clips: Sequence[Clip],
        frames: dict[Path, Seen],
        bad: BadRecords,
        seed: int | None = None,
        parts: Sequence[Clip] = (),
    ) -> Batches:
        """Batches of clips, of like length; beside a clip stand the parts of its video."""
        rows, beside = self.rows(clips, frames, bad), defaultdict(list)
        for row in self.rows([clip for clip in parts if not clip.whole], frames, bad):
            beside[row.video].append(row)
        if not rows:
            raise ConveyorError(f"[data] expected clips, got none{bad.summary()}")

        def collate(chosen: np.ndarray) -> Batch:
            some = [rows[n] for n in chosen]
            near = [part for row in some for part in beside.get(row.video, ())]
            return self.batch(some)._replace(parts=self.batch(near) if near else None)

        return Batches([len(row.seen.frames) for row in rows], self.config.training.batch_size, collate, seed)

    def batch(self, rows: Sequence[Row]) -> Batch:
        """Rows side by side."""
        return Batch(
            *side_by_side([row.seen for row in rows])[:2],
            Teacher.of([row.words for row in rows]),
            [row.caption for row in rows],
            self.target,
            self.facts["prior"],
            side_by_side([row.seen for row in rows])[2],
        )

    def rows(self, clips: Sequence[Clip], frames: dict[Path, Seen], bad: BadRecords) -> list[Row]:
        """Clips of videos that could be read."""
        found = []
        for clip in clips:
            if clip.video in frames:
                with bad.record():
                    shown = self.fitting(frames[clip.video].of(clip), clip.where)
                    found.append(Row(clip.video, shown, clip.caption, self.target.encode(clip.caption)))
        return found

    def fitting(self, seen: Seen, where: str) -> Seen:
        """Frames that are not too many."""
        count = len(seen.frames)
        if count > self.config.longest:
            raise ConveyorError(
                f"[data] {where}: expected at most {self.config.longest} frames (--longest), got {count}; cut it"
            )
        return seen


def side_by_side(seen: Sequence[Seen]) -> tuple[Tensor, Tensor, Tensor | None]:
    """Frames [T, B, height, width], their numbers [B], and features [T, B, D] where there are some."""
    frames, features = zip(*seen, strict=True)
    lengths = torch.tensor([len(one) for one in frames])
    known = None if features[0] is None else torch.from_numpy(pad(features))
    return torch.from_numpy(pad(frames)), lengths, known


# Network and loss


class Network(nn.Module):
    """CNN over frames or what an encoder saw, BiLSTM, an attentive decoder, and a head for CTC."""

    def __init__(self, config: Config, words: int, features: int) -> None:
        super().__init__()
        H = config.hidden_size
        self.frames = (
            FrameFeatures(features, 2 * H, config.dropout)
            if config.encoder
            else FrameCNN(config.height, config.width, 2 * H, config.dropout, config.shift, config.mirror)
        )
        self.encoder = Encoder(2 * H, H, config.encoder_layers, config.dropout, variant=config.variant)
        self.decoder = Decoder(
            words, config.embedding_size, H, 2 * H, 2 * H, attention="additive", dropout=config.dropout,
            variant=config.variant,
        )  # fmt: skip
        self.ctc = nn.Linear(2 * H, words) if config.ctc_weight else None

    def forward(self, frames: Tensor, lengths: Tensor, features: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Values [T, B, 2H] of the frames, and a summary [B, 2H]."""
        values, summary = self.encoder(self.frames(frames if features is None else features, lengths), lengths)
        return values, summary


def network(config: Config, facts: dict[str, Any]) -> Network:
    """The untrained network."""
    coder = Coder(config, facts)
    return Network(config, len(coder.target), coder.features)


def loss(config: Config, network: Any, batch: Batch, carried: None) -> Outcome:
    """Cross-entropy of the decoder and CTC's, and that of parts besides; in validation and test what is written too."""
    outcome = _loss(config, network, batch)
    if batch.parts is None:
        return outcome
    parts = _loss(config, network, batch.parts)
    return Outcome(outcome.loss + parts.loss, outcome.weight, add(outcome.sums, parts.sums))


def _loss(config: Config, network: Any, batch: Batch) -> Outcome:
    """Of clips side by side."""
    values, summary = network(batch.frames, batch.lengths, batch.features)
    inputs, targets = batch.teacher
    logits = network.decoder(
        inputs, network.decoder.remember(values, batch.lengths), network.decoder.start(summary)
    ).logits
    flat, count = logits.flatten(0, 1), int((targets != NOTHING).sum())
    of_decoder = cross_entropy(
        flat, targets.flatten(), label_smoothing=config.label_smoothing if network.training else 0.0
    )
    total = of_decoder
    if network.ctc is not None:
        texts = inputs[1:].T
        each = ctc_loss(network.ctc(values), batch.lengths, texts, (targets > 0).sum(0))
        total = torch.lerp(of_decoder, each.sum() / count, config.ctc_weight)
    frames = int(batch.lengths.sum())
    sums: Sums = {"nats": total.detach().double() * count, "words": count, "frames": frames}
    if not network.training:
        written = [
            batch.target.decode(best)
            for best, _ in _write(config, network, values, summary, batch.lengths, batch.target)
        ]
        sums |= _errors(written, batch.captions) | {
            f"{name}_prior": value for name, value in _errors([batch.prior] * len(written), batch.captions).items()
        }
    return Outcome(total, count, sums)


def _errors(written: Sequence[str], captions: Sequence[str]) -> Sums:
    """Words that are wrong, words there are, captions that are right, captions."""
    found = jiwer.process_words([*captions], [*written])
    wrong = found.substitutions + found.deletions + found.insertions
    right = sum(a == b for a, b in zip(written, captions, strict=True))
    said = found.hits + found.substitutions + found.deletions
    return {"wrong": wrong, "said": said, "right": right, "captions": len(captions)}


def _write(
    config: Config, network: Any, values: Tensor, summary: Tensor, lengths: Tensor, target: Written, beam: int = 1
) -> list[tuple[list[int], np.ndarray]]:
    """Numbers of the words of each caption, and where the decoder looked [U, T]."""
    memory, state = network.decoder.remember(values, lengths), network.decoder.start(summary)
    if config.decode == "ctc":
        logits = network.ctc(values)
        shares = logits.softmax(-1).detach().numpy()
        return [(one.tokens, shares[:, b, one.tokens].T) for b, one in enumerate(best_path(logits, lengths))]
    found: list[list[Hypothesis]] = beam_search(
        [network.decoder], [memory], [state], start=BOUNDARY, end=BOUNDARY, rows=len(lengths), width=beam,
        longest=videos.MOST_WORDS, length_penalty=0.7, never=target.never,
    )  # fmt: skip
    return [(best.tokens, best.weights.numpy()) for best, *_ in found]


def scores(sums: dict[str, Any]) -> dict[str, float]:
    """Nats a word, word error rate, exact captions, and these of the prior where something was written."""
    found = {"loss": sums["nats"] / sums["words"]}
    for prior in ("", "_prior") if "wrong" in sums else ():
        found[f"wer{prior}"] = 100 * sums[f"wrong{prior}"] / sums[f"said{prior}"]
        found[f"exact{prior}"] = sums[f"right{prior}"] / sums[f"captions{prior}"]
    return found


# Prediction


@dataclass(kw_only=True)
class PredictOptions:
    """Write captions of videos, of folders of them, or of the clips of a CSV."""

    beam: Count = 5
    """Captions that are followed side by side; 1 is greedy."""

    def __post_init__(self) -> None:
        check(self)


@dataclass
class Caption:
    """What is said of a clip."""

    name: str
    text: str
    weights: np.ndarray
    """Where the decoder looked as it wrote each word [U, T]."""
    frames: np.ndarray
    """[T, height, width]"""

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


class Captions(list[Caption]):
    """Those of an input."""

    def __str__(self) -> str:
        return "\n".join(map(str, self))


def predict(model: Model, inputs: Sequence[Any], options: PredictOptions, bad: BadRecords) -> list[Captions]:
    """Captions of each input: a video, a folder of videos, a CSV of clips, or frames [T, height, width]."""
    coder = Coder(model.config, model.facts)
    encoder = coder.encoder()
    found = (_caption(model, coder, _clips(coder, encoder, one, bad), options.beam) for one in inputs)
    return [captions for captions in found if captions]


def _clips(coder: Coder, encoder: ImageEncoder | None, one: Any, bad: BadRecords) -> list[tuple[str, Seen]]:
    """Names and frames of the clips of an input."""
    config: Config = coder.config
    if isinstance(one, np.ndarray) and not encoder:
        if one.shape[1:] != (config.height, config.width) or not len(one):
            raise ConveyorError(f"[predict] expected frames [T, {config.height}, {config.width}], got {[*one.shape]}")
        return [("frames", coder.fitting(Seen(one), "the frames"))]
    if not isinstance(one, (str, Path)):
        raise ConveyorError(f"[predict] expected a video, a folder of videos, or a CSV, got {one!r:.40}")
    path, whole = Path(one), float("inf")
    if path.suffix == ".csv":
        clips = videos.read_clips([path], config.leave_out, bad)
    else:
        inside = (
            sorted(file for file in path.iterdir() if file.suffix.lower() in videos.VIDEOS) if path.is_dir() else [path]
        )
        clips = [Clip(file, "", 0.0, whole, str(file)) for file in inside]
    found = []
    with bad.record():
        if not clips:
            raise ConveyorError(f"[predict] {one}: expected videos in this folder, got none; give another")
    for clip in clips:
        with bad.record():
            span = "" if clip.end == whole else f" {clip.start:g}-{clip.end:g}"
            seen = coder.watch(clip.video, encoder).of(clip)
            found.append((clip.video.name + span, coder.fitting(seen, clip.where)))
    return found


@torch.inference_mode()
def _caption(model: Model, coder: Coder, clips: Sequence[tuple[str, Seen]], beam: int) -> Captions:
    """In batches."""
    network: Any = model.network
    said, size = Captions(), model.config.training.batch_size
    for first in range(0, len(clips), size):
        names, seen = zip(*clips[first : first + size], strict=True)
        frames, lengths, features = side_by_side(seen)
        values, summary = network(frames, lengths, features)
        found = _write(model.config, network, values, summary, lengths, coder.target, beam)
        for name, (shown, _), (tokens, weights) in zip(names, seen, found, strict=True):
            said.append(Caption(name, coder.target.decode(tokens), weights[:, : len(shown)], shown))
    return said


def steps(model: Model, input: Any) -> Iterator[Steps]:
    """A video, frame by frame, and its caption as it is written greedily."""
    coder, network = Coder(model.config, model.facts), cast(Any, model.network)
    (_, seen), *_ = _clips(coder, coder.encoder(), input, BadRecords(False, ""))
    frames, lengths, features = side_by_side([seen])
    values, summary = network(frames, lengths, features)
    yield Steps([f"{n} " for n in range(len(frames))], of="encoder")
    if model.config.decode == "ctc":
        names = ["–", *coder.target.pieces(range(1, len(coder.target)))]
        yield Steps([f"{n} " for n in range(len(frames))], names, lambda: network.ctc(values)[:, 0].softmax(-1))
        return
    [(tokens, weights)] = _write(model.config, network, values, summary, lengths, coder.target)
    read = torch.tensor([[BOUNDARY, *tokens]]).T[: len(weights)]
    memory, state = network.decoder.remember(values, lengths), network.decoder.start(summary)
    yield Steps(
        coder.target.said(read[:, 0].tolist()),
        coder.target.pieces(range(len(coder.target))),
        lambda: network.decoder(read, memory, state).logits[:, 0].softmax(-1),
    )


def save(results: list[Captions], path: Path) -> None:
    """A row a clip (.csv), a line a clip (.txt), all with attention (.json), or a picture of the first (.png)."""
    each = [one for said in results for one in said]
    if path.suffix == ".png":
        key_frames.draw(path, each[0].frames, each[0].text.split(), each[0].weights)
    elif path.suffix == ".json":
        described = [{"video": one.name, "caption": one.text, "weights": one.weights.round(4).tolist()} for one in each]
        files.write_json(path, described)
    elif path.suffix == ".txt":
        files.write(path, "".join(f"{one.text}\n" for one in each).encode())
    else:
        table = io.StringIO()
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(["video", "caption"])
        rows.writerows((one.name, one.text) for one in each)
        files.write(path, table.getvalue().encode())


def show(model: Model, data: Data, folder: Path) -> str:
    """Captions of clips of the test part, and where the decoder looked."""
    coder, batch = Coder(model.config, model.facts), data.test.batch(0, 0)
    clips = []
    for b, length in enumerate(batch.lengths.tolist()[:10]):
        features = None if batch.features is None else batch.features[:length, b].numpy()
        clips.append(("", Seen(batch.frames[:length, b].numpy(), features)))
    found = _caption(model, coder, clips, 5)
    key_frames.draw(folder / "frames.png", found[0].frames, found[0].text.split(), found[0].weights)
    rows = [f"| {one.text} | {caption} |" for one, caption in zip(found, batch.captions, strict=False)]
    table = "\n".join(["| written | caption |", "|---|---|", *rows])
    return f"Clips of the test part:\n\n{table}\n\n![Where the decoder looked](frames.png)\n"


def smoke(folder: Path) -> Smoke:
    """A bright spot that moves left or right, then up or down."""
    import av

    random = np.random.default_rng(0)
    rows = ["video,caption"]
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(30):
        across, down = random.integers(2, size=2)
        name = f"{n:02}.mp4"
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream("mpeg4", rate=Fraction(10))
            stream.width = stream.height = 32
            for t in range(10):
                x, y = 4 + 4 * min(t, 5), 4 + 4 * max(0, t - 5)
                pixels = np.zeros((32, 32, 3), np.uint8)
                pixels[(y if down else 27 - y) :, (x if across else 27 - x) :][:5, :5] = 255
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode())
        rows.append(f"{name},{('left', 'right')[across]} {('up', 'down')[down]}")
    files.write(folder / "captions.csv", ("\n".join(rows) + "\n").encode())
    config = Config(
        width=16, height=16, embedding_size=8, hidden_size=16, dropout=0.0, shift=0, mirror=False, encoder_layers=1,
        reading=ReadingOptions(data=(str(folder),)),
        training=TrainingOptions(batch_size=8, epochs=2, learning_rate=0.005),
    )  # fmt: skip
    return Smoke(config, (str(folder / "00.mp4"),))
