r"""Captioning: a sentence that says what an image shows.

The task: of an image, seen as a map of features x_1 … x_P, write the caption y_1 … y_T. An LSTM writes it word by word,
and looks at the places of the image through soft attention as it does (K. Xu et al. 2015, arXiv 1502.03044); with a
sentinel it may look at its own memory instead (J. Lu et al. 2017, arXiv 1612.01887). Beam search finds the likeliest
caption.

    conveyor train captioning --data images/ captions.csv --encoder encoder.onnx
    conveyor evaluate runs/captioning/TIME
    conveyor predict runs/captioning/TIME photo.jpg -o photo.png

Data: folders of images, and captions of them as Flickr8k's token file, COCO's JSON, or CSV with the columns image and
caption. Lists of images and files of captions whose names hold train, dev (val) or test say what is what. Features are
those of any image encoder in ONNX with a feature map among its outputs, computed once and kept; without one a small
convolutional network is trained along.

Flickr8k (M. Hodosh, P. Young & J. Hockenmaier 2013, 10.1613/jair.3994), with features of a SqueezeNet: BLEU-1 to 4 of
57.9, 39.1, 26.0 and 17.2, after 38 minutes on one core; written greedily, 58.2, 39.1, 25.1 and 16.1 (A. Karpathy &
L. Fei-Fei 2015, arXiv 1412.2306: 57.9, 38.3, 24.5, 16.0):

    conveyor train captioning --data flickr8k --encoder squeezenet1_1_fire9.onnx --matmul-precision medium \
        --epochs 22 --max-minutes 38 --threads 1

Scores: `loss`, nats a word of the captions; `perplexity`; `bleu1` to `bleu4` against all captions of an image, by
sacrebleu, of words in lower case without punctuation. While training, captions are written greedily; `conveyor
evaluate` searches with a beam.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from conveyor.data import captions, images
from conveyor.data.batches import Batches
from conveyor.data.captions import Picture
from conveyor.data.records import BadRecords
from conveyor.data.written import BOUNDARY, NOTHING, Teacher, Written
from conveyor.errors import ConveyorError
from conveyor.nn.attention import Memory, doubly_stochastic
from conveyor.nn.beam_search import Hypothesis
from conveyor.nn.decoder import Decoded, Decoder, DecoderState
from conveyor.nn.images import PlacesEncoder, SmallCNN
from conveyor.nn.seq2seq import Ensemble, search
from conveyor.training import bleu, files, gaze
from conveyor.training.features import Encoder, Features
from conveyor.training.options import (
    Count,
    Depth,
    NotNegative,
    ReadingOptions,
    Share,
    Size,
    TrainingOptions,
    VariantName,
    check,
)
from conveyor.training.scoring import add, numbers
from conveyor.training.task import Data, Model, Outcome, Smoke, Steps, Sums

UNIT = "words"
ENDINGS: tuple[str, ...] = (".csv", ".json", ".txt", ".png")
LONGEST = 30
"""Most words of a caption that is written."""


@dataclass(kw_only=True)
class Config:
    """Train a writer of captions.

    Data: folders of images, and captions in a token file, COCO's JSON, or CSV. Names with train, dev or test say what
    is what; a share of the images is set aside for what is not there. --limit counts images.
    """

    encoder: str = ""
    """An image encoder in ONNX, with a feature map among its outputs; without one a small CNN is trained along."""
    image_size: Size = 224
    """Pixels of a side that images are brought to."""
    vocabulary: Count = 3_000
    """Most words told apart, the most frequent ones."""
    embedding_size: Size = 256
    """Numbers that stand for a word."""
    hidden_size: Size = 512
    """Units of a layer, and of a place's features as the decoder sees them."""
    layers: Depth = 1
    """Layers that write; the first asks the attention."""
    attention: Literal["additive", "multiplicative"] = "multiplicative"
    """How places are compared with what is looked for."""
    sentinel: bool = True
    """Let a step look at the writer's own memory instead of the image (adaptive attention)."""
    doubly_stochastic: NotNegative = 0.1
    """How strongly each place is to be looked at about once (Xu et al. 2015, (14))."""
    variant: VariantName = "lstm"
    """Which LSTM: a name in `conveyor.VARIANTS` (docs/variants.md)."""
    dropout: Share = 0.5
    """Share dropped of features, embeddings and outputs."""
    label_smoothing: Share = 0.1
    """Share of the probability that training spreads over all words."""
    reading: ReadingOptions = field(default_factory=ReadingOptions)
    training: TrainingOptions = field(
        default_factory=lambda: TrainingOptions(
            batch_size=64, epochs=20, learning_rate=0.001, schedule="cosine", clip_norm=1.0, average="ema"
        )
    )

    def __post_init__(self) -> None:
        check(self)


# Reading


class Batch(NamedTuple):
    """Images, and captions of them."""

    maps: Tensor
    """Features [N, P, D], or pixels [N, S, S, 3]."""
    vectors: Tensor
    """[N, V]"""
    owners: Tensor
    """Which image each caption describes [B]."""
    teacher: Teacher
    references: list[tuple[str, ...]]
    """All captions of each image."""
    target: Written
    """What makes texts of what is written."""


def read(config: Config, facts: dict[str, Any] | None = None) -> Data:
    """Read the images of each part; the vocabulary is that of the training part, or of `facts`."""
    reading = config.reading
    if not reading.data:
        raise ConveyorError("[data] nothing to read; name a folder of images and a file of captions with --data")
    bad = BadRecords(reading.skip_bad)
    found = captions.read([Path(path) for path in reading.data], bad)
    parts = captions.set_aside(found, reading.valid_share, reading.test_share)
    pictures = {name: part[: reading.limit] for name, part in parts.items()}
    coder = Coder(config, facts or learn(config, pictures["train"]))
    known = coder.known([one for part in pictures.values() for one in part], bad)
    train = coder.pairs(pictures["train"], known, config.training.seed)
    valid, test = (coder.whole(pictures[part], known) for part in ("valid", "test"))
    counts = " + ".join(f"{sum(one.path in known.rows for one in part):,}" for part in pictures.values())
    summary = f"{counts} images to train, validate, test; {len(train.lengths):,} captions, {len(coder.target):,} words"
    return Data(train, valid, test, coder.facts, summary + bad.summary())


def read_test(config: Config, facts: dict[str, Any], data: Sequence[str], bad: BadRecords) -> Batches:
    """Other images with captions: those for test, if files say so, or all."""
    parts = captions.read([Path(path) for path in data], bad)
    chosen = parts["test"] or [one for part in parts.values() for one in part]
    coder = Coder(config, facts)
    return coder.whole(chosen, coder.known(chosen, bad))


def learn(config: Config, train: Sequence[Picture]) -> dict[str, Any]:
    """The facts: the words, and which encoder."""
    words = Written.learn("word", [caption for one in train for caption in one.captions], max(config.vocabulary, 4))
    encoder = Encoder(config.encoder, config.image_size)
    return {"words": words.to_json(), "encoder": encoder.sha256, "sizes": [*encoder.sizes]}


class Known(NamedTuple):
    """Features of images, and which row is whose."""

    features: Features
    rows: dict[Path, int]


class Coder:
    """What makes tensors of images and captions."""

    def __init__(self, config: Config, facts: dict[str, Any]) -> None:
        self.config, self.facts = config, facts
        self.target = Written.from_json(facts.get("words"))
        sizes = facts.get("sizes")
        if (
            not isinstance(sizes, list)
            or len(sizes) != 2
            or not all(isinstance(size, int) and size >= 0 for size in sizes)
        ):
            raise ConveyorError("[model] sizes: expected two whole numbers; copy the model's file again")
        self.map_size, self.vector_size = sizes

    def encoder(self) -> Encoder:
        """The encoder that the model was trained on."""
        encoder = Encoder(self.config.encoder, self.config.image_size)
        if encoder.sha256 != self.facts.get("encoder"):
            raise ConveyorError(
                f"[encoder] {encoder.path}: this is not the encoder that the model was trained on; put that one there"
            )
        return encoder

    def known(self, pictures: Sequence[Picture], bad: BadRecords) -> Known:
        """The features of images."""
        features, paths = self.encoder().features([one.path for one in pictures], bad)
        return Known(features, {path: row for row, path in enumerate(paths)})

    def pairs(self, pictures: Sequence[Picture], known: Known, seed: int) -> Batches:
        """Batches of captions, of like length, each with its image."""
        pairs = [(one, caption) for one in pictures if one.path in known.rows for caption in one.captions]
        return self._batches(
            [([one], [0], [caption]) for one, caption in pairs], known, self.config.training.batch_size, seed
        )

    def whole(self, pictures: Sequence[Picture], known: Known) -> Batches:
        """Batches of images, each with all its captions."""
        there = [one for one in pictures if one.path in known.rows]
        rows = [([one], [0] * len(one.captions), [*one.captions]) for one in there]
        return self._batches(rows, known, max(1, self.config.training.batch_size // 4), None)

    def _batches(
        self, rows: list[tuple[list[Picture], list[int], list[str]]], known: Known, size: int, seed: int | None
    ) -> Batches:
        texts = [[self.target.encode(caption) for caption in said] for _, _, said in rows]

        def collate(chosen: np.ndarray) -> Batch:
            pictures = [rows[n][0][0] for n in chosen]
            owners = [b for b, n in enumerate(chosen) for _ in rows[n][1]]
            places = [known.rows[one.path] for one in pictures]
            return Batch(
                torch.from_numpy(known.features.maps[places]),
                torch.from_numpy(known.features.vectors[places]).float(),
                torch.tensor(owners),
                Teacher.of([text for n in chosen for text in texts[n]]),
                [one.captions for one in pictures],
                self.target,
            )

        return Batches([max(map(len, each)) for each in texts], size, collate, seed)


# Network and loss


class Network(nn.Module):
    """Features or a small CNN, and an attentive decoder."""

    def __init__(self, config: Config, coder: Coder) -> None:
        super().__init__()
        H = config.hidden_size
        self.cnn = None if config.encoder else SmallCNN()
        map_size = self.cnn.map_size if self.cnn else coder.map_size
        self.encoder = PlacesEncoder(map_size, coder.vector_size, H, config.dropout)
        self.decoder = Decoder(
            len(coder.target), config.embedding_size, H, H, H, layers=config.layers, attention=config.attention,
            sentinel=config.sentinel, dropout=config.dropout, variant=config.variant,
        )  # fmt: skip

    def read(self, maps: Tensor, vectors: Tensor) -> tuple[Memory, DecoderState]:
        """What the decoder looks at, and the state it begins in."""
        values, summary = self.encoder(self.cnn(maps) if self.cnn else maps.float(), vectors)
        return self.decoder.remember(values), self.decoder.start(summary)

    def forward(self, maps: Tensor, vectors: Tensor, owners: Tensor, tokens: Tensor) -> Decoded:
        """What comes after each of tokens [T, B], captions of the images `owners`."""
        x = self.cnn(maps) if self.cnn else maps.float()
        values, summary = self.encoder(x, vectors)
        memory, state = self.decoder.remember(values[:, owners]), self.decoder.start(summary[owners])
        decoded: Decoded = self.decoder(tokens, memory, state)
        return decoded


def network(config: Config, facts: dict[str, Any]) -> Network:
    """The untrained network."""
    return Network(config, Coder(config, facts))


def ensemble(networks: Sequence[nn.Module]) -> nn.Module:
    """Several trained networks as one."""
    return Ensemble(networks)


def loss(config: Config, network: nn.Module, batch: Batch, carried: None) -> Outcome:
    """Cross-entropy of captions and the attention's regulariser; in validation and test also captions of its own."""
    if not network.training:
        nats, count = _nats(network, batch)
        return Outcome(nats / count, count, _bleu(network, batch) | {"nats": nats, "words": count})
    inputs, targets = batch.teacher
    decoded = network(batch.maps, batch.vectors, batch.owners, inputs)
    nats = cross_entropy(decoded.logits.flatten(0, 1), targets.flatten(), label_smoothing=config.label_smoothing)
    count = int((targets != NOTHING).sum())
    sums: Sums = {"nats": nats.detach().double() * count, "words": count}
    if config.doubly_stochastic:
        there = (targets != NOTHING).unsqueeze(-1)
        places = torch.ones(decoded.weights.shape[:0:-1], dtype=torch.bool)
        nats = nats + config.doubly_stochastic * doubly_stochastic(decoded.weights * there, places) / len(places)
    return Outcome(nats, count, sums)


def _nats(network: nn.Module, batch: Batch) -> tuple[Tensor, int]:
    """What the captions come to, and their words."""
    inputs, targets = batch.teacher
    logits = network(batch.maps, batch.vectors, batch.owners, inputs).logits.double()
    nats = cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
    return nats, int((targets != NOTHING).sum())


def _bleu(network: nn.Module, batch: Batch, beam: int = 1, length_penalty: float = 0.0) -> Sums:
    """What BLEU counts of the captions that are found."""
    found = _search(network, batch.maps, batch.vectors, batch.target, beam, length_penalty)
    written = [batch.target.decode(best.tokens) for best, *_ in found]
    most = max(map(len, batch.references))
    streams = [[said[min(k, len(said) - 1)] for said in batch.references] for k in range(most)]
    return {"bleu": bleu.counts(written, streams, tokenize="none")}


def _search(
    network: nn.Module, maps: Tensor, vectors: Tensor, target: Written, beam: int, penalty: float, n_best: int = 1
) -> list[list[Hypothesis]]:
    return search(
        network, maps, vectors, start=BOUNDARY, end=BOUNDARY, width=beam, longest=LONGEST, length_penalty=penalty,
        n_best=n_best, never=target.never,
    )  # fmt: skip


def scores(sums: dict[str, Any]) -> dict[str, float]:
    """Nats a word, perplexity, BLEU-1 to BLEU-4 where something was written."""
    nats = sums["nats"] / sums["words"]
    found = {"loss": nats, "perplexity": math.exp(min(nats, 700))}
    return found | ({f"bleu{n}": bleu.score(sums["bleu"], n) for n in range(1, 5)} if "bleu" in sums else {})


@dataclass(kw_only=True)
class EvaluateOptions:
    """Score captions found by beam search."""

    beam: Count = 5
    """Captions that are followed side by side; 1 is greedy."""
    length_penalty: NotNegative = 1.0
    """How strongly longer captions are favoured: the exponent of Wu et al. 2016, (14)."""

    def __post_init__(self) -> None:
        check(self)


def evaluate(model: Model, split: Batches, options: EvaluateOptions) -> dict[str, float]:
    """Scores with captions found by beam search."""
    model.network.eval()
    sums: Sums = {}
    for index in range(len(split)):
        batch = split.batch(0, index)
        with torch.inference_mode():
            nats, count = _nats(model.network, batch)
        sums = add(
            sums, _bleu(model.network, batch, options.beam, options.length_penalty) | {"nats": nats, "words": count}
        )
    return numbers(model.task, sums)


# Prediction


@dataclass(kw_only=True)
class PredictOptions:
    """Write captions of images, or of folders of them."""

    beam: Count = 5
    """Captions that are followed side by side; 1 is greedy."""
    length_penalty: NotNegative = 1.0
    """How strongly longer captions are favoured: the exponent of Wu et al. 2016, (14)."""
    n_best: Count = 1
    """How many captions of each image to give."""

    def __post_init__(self) -> None:
        check(self, self._conflicts)

    def _conflicts(self) -> Iterator[str]:
        if self.n_best > self.beam:
            yield f"--n-best: expected at most --beam, {self.beam}, got {self.n_best}"


@dataclass
class Caption:
    """What is said of an image."""

    path: Path
    texts: list[str]
    """The likeliest first."""
    scores: list[float]
    """log p of each over its length penalty."""
    weights: list[np.ndarray]
    """Where the decoder looked as it wrote each [T, P]; T counts the end."""

    def __str__(self) -> str:
        if len(self.texts) == 1:
            return f"{self.path.name}: {self.texts[0]}"
        lines = [f"{score:8.3f}  {text}" for text, score in zip(self.texts, self.scores, strict=True)]
        return "\n".join([f"{self.path.name}:", *lines])


class Captions(list[Caption]):
    """Those of an input."""

    def __str__(self) -> str:
        return "\n".join(map(str, self))


def predict(model: Model, inputs: Sequence[Any], options: PredictOptions, bad: BadRecords) -> list[Captions]:
    """Captions of each input: an image, or a folder of images."""
    coder = Coder(model.config, model.facts)
    encoder = coder.encoder()
    return [_caption(model, coder, encoder, _images(one), options, bad) for one in inputs]


def _images(one: Any) -> list[Path]:
    if not isinstance(one, (str, Path)):
        raise ConveyorError(f"[predict] expected an image or a folder of images, got {one!r:.40}")
    path = Path(one)
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix.lower() in captions.IMAGES)


@torch.inference_mode()
def _caption(
    model: Model, coder: Coder, encoder: Encoder, paths: list[Path], options: PredictOptions, bad: BadRecords
) -> Captions:
    """In batches."""
    said, size = Captions(), model.config.training.batch_size
    for first in range(0, len(paths), size):
        good, pixels = [], []
        for path in paths[first : first + size]:
            with bad.record():
                pixels.append(images.read(path, encoder.size))
                good.append(path)
        if not good:
            continue
        maps, vectors = (torch.from_numpy(part) for part in encoder.run(np.stack(pixels)))
        found = _search(
            model.network, maps, vectors.float(), coder.target, options.beam, options.length_penalty, options.n_best
        )
        for path, best in zip(good, found, strict=True):
            texts = [coder.target.decode(one.tokens) for one in best]
            said.append(Caption(path, texts, [one.score for one in best], [one.weights.numpy() for one in best]))
    return said


def steps(model: Model, input: Any) -> Iterator[Steps]:
    """A caption of an image, word by word, as it is written greedily."""
    coder = Coder(model.config, model.facts)
    pixels = images.read(_images(input)[0], (encoder := coder.encoder()).size)
    maps, vectors = (torch.from_numpy(part).float() for part in encoder.run(np.stack([pixels])))
    [[best]] = _search(model.network, maps, vectors, coder.target, 1, 0.0)
    read = torch.tensor([[BOUNDARY, *best.tokens]]).T[: len(best.weights)]
    yield Steps(
        coder.target.said(read[:, 0].tolist()),
        coder.target.pieces(range(len(coder.target))),
        lambda: model.network(maps, vectors, torch.tensor([0]), read).logits[:, 0].softmax(-1),
    )


def save(results: list[Captions], path: Path) -> None:
    """A row a caption (.csv), a line an image (.txt), all with attention (.json), or a picture of the first (.png)."""
    each = [one for said in results for one in said]
    if path.suffix == ".png":
        _draw(path, each[0])
    elif path.suffix == ".json":
        files.write_json(path, [_described(one) for one in each])
    elif path.suffix == ".txt":
        files.write(path, "".join(f"{one.texts[0]}\n" for one in each).encode())
    else:
        table = io.StringIO()
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(["image", "rank", "score", "caption"])
        for one in each:
            for rank, (text, score) in enumerate(zip(one.texts, one.scores, strict=True), 1):
                rows.writerow([one.path.name, rank, f"{score:.4f}", text])
        files.write(path, table.getvalue().encode())


def _described(one: Caption) -> dict[str, Any]:
    """As JSON."""
    each = zip(one.texts, one.scores, one.weights, strict=True)
    said = [{"caption": text, "score": score, "weights": seen.round(4).tolist()} for text, score, seen in each]
    return {"image": one.path.name, "captions": said}


def _draw(path: Path, one: Caption) -> None:
    gaze.draw(path, images.read(one.path, 224), one.texts[0].split(), one.weights[0])


def show(model: Model, data: Data, folder: Path) -> str:
    """Captions of images of the test part beside what people wrote."""
    coder, batch = Coder(model.config, model.facts), data.test.batch(0, 0)
    found = _search(model.network.eval(), batch.maps, batch.vectors, coder.target, 5, 0.7)
    rows = [
        f"| {coder.target.decode(best[0].tokens)} | {said[0]} |"
        for best, said in zip(found, batch.references, strict=True)
    ]
    table = "\n".join(["| written | one of the captions |", "|---|---|", *rows[:10]])
    return f"Images of the test part:\n\n{table}\n"


def smoke(folder: Path) -> Smoke:
    """Squares and discs in colours."""
    random = np.random.default_rng(0)
    colours, rows = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (50, 60, 220)}, ["image,caption"]
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for n in range(60):
        name, shape = [*colours][random.integers(3)], ("square", "disc")[random.integers(2)]
        y, x = np.mgrid[:32, :32] - random.integers(10, 22, (2, 1, 1))
        inside = np.abs(np.stack([x, y])).max(0) < 8 if shape == "square" else np.hypot(x, y) < 8
        pixels = np.where(inside[..., None], colours[name], random.integers(0, 60, (32, 32, 3))).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{n}.png")
        rows.append(f"{n}.png,a {name} {shape}")
    files.write(folder / "captions.csv", ("\n".join(rows) + "\n").encode())
    training = TrainingOptions(batch_size=8, epochs=4, learning_rate=0.01)
    config = Config(
        image_size=32, embedding_size=16, hidden_size=24, dropout=0.0, label_smoothing=0.0, training=training,
        reading=ReadingOptions(data=(str(folder),)),
    )  # fmt: skip
    return Smoke(config, (str(folder / "images" / "0.png"),))
