r"""Image generation: pictures drawn stroke by stroke, where attention looks.

The task: learn how pictures of a kind come about, and draw new ones. One LSTM reads a picture in glimpses, through a
grid of Gaussians that it places itself; another writes it, a patch at each glimpse; what goes from one to the other are
latent variables (DRAW: K. Gregor et al. 2015, arXiv 1502.04623). With --read-size 0 and --write-size 0 every glimpse is
of the whole picture.

    conveyor train image-generation --data pictures/
    conveyor evaluate runs/image-generation/TIME
    conveyor predict runs/image-generation/TIME 36 -o drawing.gif

Data: folders of images, IDX files, or .npz with one array [N, height, width] of bytes; names that hold train, valid
(val) or test (t10k) say what is what. Each time a picture is seen its pixels are drawn black or white anew, by their
grey values (dynamic binarisation); pictures to choose by and to test on are drawn once, from --split-seed. `predict`
takes a number of pictures to draw, or pictures to draw again.

MNIST in 50 minutes on one thread: at most 85.5 nats a picture, and 88.1 without attention in the same time:

    conveyor train image-generation --data mnist --valid-share 0.16667 --epochs 60 --learning-rate 0.002 \
        --matmul-precision medium --threads 1

Scores: `loss`, the bound in nats a picture: the latent variables' `kl`, and the `pixels` given them.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from conveyor.data import images, pictures
from conveyor.data.batches import Batches
from conveyor.data.records import BadRecords
from conveyor.errors import ConveyorError
from conveyor.nn.draw import Draw, Drawn
from conveyor.training import files, sheet
from conveyor.training.options import Count, ReadingOptions, Size, TrainingOptions, Whole, check
from conveyor.training.task import Data, Model, Outcome, Smoke, Sums

UNIT = "pictures"
ENDINGS: tuple[str, ...] = (".png", ".gif", ".npz")
MOST = 1000
"""Pictures drawn at once."""


@dataclass(kw_only=True)
class Config:
    """Train one that draws.

    Data: images, IDX files, .npz. --limit counts pictures.
    """

    size: Size = 28
    """Pixels that images are brought to, across and down."""
    binarise: bool = True
    """Draw pixels black or white by their grey values; if not, the grey values are what is to be drawn."""
    split_seed: Whole = 0
    """What validates, and tests if no name says it, is drawn from this, and so are their pixels."""
    glimpses: Count = 12
    """Steps of a drawing."""
    read_size: Whole = 5
    """Gaussians of the grid that reads, across and down; 0 reads the whole picture."""
    write_size: Whole = 5
    """Gaussians of the grid that writes; 0 writes all of the picture."""
    hidden_size: Size = 256
    """Units of each LSTM."""
    latent_size: Size = 32
    """Latent variables of a glimpse."""
    reading: ReadingOptions = field(default_factory=ReadingOptions)
    training: TrainingOptions = field(
        default_factory=lambda: TrainingOptions(
            batch_size=100, epochs=60, learning_rate=0.001, schedule="cosine", average="ema", average_decay=0.999
        )
    )

    def __post_init__(self) -> None:
        check(self)


# Reading


class Batch(NamedTuple):
    """Pictures side by side."""

    images: Tensor
    """[B, size, size], bytes"""
    seed: int | None
    """Of their pixels and latent variables; None in training, which draws them anew."""


def read(config: Config, facts: dict[str, Any] | None = None) -> Data:
    """Read the pictures of each part."""
    reading = config.reading
    if not reading.data:
        raise ConveyorError("[data] nothing to read; name images, IDX files or .npz with --data")
    bad = BadRecords(reading.skip_bad)
    parts = pictures.read([Path(path) for path in reading.data], config.size, bad)
    for n, (name, share) in enumerate((("valid", reading.valid_share), ("test", reading.test_share))):
        if not len(parts[name]):
            parts["train"], parts[name] = _set_aside(parts["train"], share, config.split_seed + n)
    if not len(parts["train"]):
        raise ConveyorError(f"[data] expected pictures to train on, got none or too few to split{bad.summary()}")
    train, valid, test = (part[: reading.limit] for part in parts.values())
    splits = batches(config, train, config.training.seed), batches(config, valid), batches(config, test)
    counts = " + ".join(f"{len(part):,}" for part in (train, valid, test))
    summary = f"{counts} pictures of {config.size} x {config.size} to train, validate, test"
    return Data(*splits, facts or {}, summary + bad.summary())


def _set_aside(found: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng(seed).permutation(len(found))
    count = max(1, round(share * len(found)))
    return found[np.sort(order[count:])], found[np.sort(order[:count])]


def read_test(config: Config, facts: dict[str, Any], data: Sequence[str], bad: BadRecords) -> Batches:
    """Other pictures: those to test on, if names say so, or all."""
    parts = pictures.read([Path(path) for path in data], config.size, bad)
    return batches(config, parts["test"] if len(parts["test"]) else np.concatenate([*parts.values()]))


def batches(config: Config, found: np.ndarray, seed: int | None = None) -> Batches:
    """Batches of pictures."""

    def collate(chosen: np.ndarray) -> Batch:
        return Batch(torch.from_numpy(found[chosen]), int(chosen[0]) + config.split_seed if seed is None else None)

    return Batches(np.ones(len(found), int), config.training.batch_size, collate, seed)


# Network and loss


def network(config: Config, facts: dict[str, Any]) -> Draw:
    """The untrained network."""
    return Draw(
        config.size, config.size, config.glimpses, config.hidden_size, config.latent_size, config.read_size,
        config.write_size,
    )  # fmt: skip


def loss(config: Config, network: nn.Module, batch: Batch, carried: None) -> Outcome:
    """The bound, a mean over the pictures: nats of the latent variables, and of the pixels given them."""
    random = torch.default_generator if batch.seed is None else torch.Generator().manual_seed(batch.seed)
    grey = batch.images.float() / 255
    target = torch.bernoulli(grey, generator=random) if config.binarise else grey
    noise = torch.randn(config.glimpses, len(grey), config.latent_size, generator=random)
    drawn: Drawn = network(target, noise)
    pixels = binary_cross_entropy_with_logits(drawn.canvas, target, reduction="none").sum((1, 2))
    kl, pixels, count = drawn.kl.mean(), pixels.mean(), len(grey)
    sums: Sums = {name: value.detach().double() * count for name, value in (("kl", kl), ("pixels", pixels))}
    return Outcome(kl + pixels, count, sums | {"pictures": count})


def scores(sums: dict[str, Any]) -> dict[str, float]:
    """The bound in nats a picture, and its two parts."""
    kl, pixels = (sums[name] / sums["pictures"] for name in ("kl", "pixels"))
    return {"loss": kl + pixels, "kl": kl, "pixels": pixels}


# Prediction


@dataclass(kw_only=True)
class PredictOptions:
    """Draw so many pictures, or draw pictures again."""

    seed: Whole = 1
    """What the pictures are drawn from."""

    def __post_init__(self) -> None:
        check(self)


@dataclass
class Drawing:
    """Pictures as they were drawn."""

    name: str
    steps: list[np.ndarray]
    """How likely each pixel is white after every glimpse [N, size, size]."""
    boxes: list[np.ndarray]
    """Where each glimpse wrote [N, 4]: centre down and across, half the side, and a thickness, in pixels; or empty."""

    def __str__(self) -> str:
        return f"{self.name}: {len(self.steps[-1])} pictures of {len(self.steps)} glimpses; see them with -o"


def predict(model: Model, inputs: Sequence[Any], options: PredictOptions, bad: BadRecords) -> list[Drawing]:
    """Drawings of each input: a number, an image, a folder of images, or pictures [N, size, size] of bytes."""
    network: Any = model.network
    found = []
    for one in inputs:
        asked: list[int | np.ndarray] = []
        with bad.record():
            asked.append(_given(model.config.size, one))
        for given in asked:
            found.append(_drawn(network, one, given, options.seed))
    return found


def _drawn(network: Any, one: Any, given: int | np.ndarray, seed: int) -> Drawing:
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(seed)
        if isinstance(given, int):
            return _drawing(network, f"{given} new ones", network.sample(given))
        name = "pictures" if isinstance(one, np.ndarray) else str(one)
        return _drawing(network, name, network(torch.from_numpy(given.astype(np.float32) / 255)))


def _given(size: int, one: Any) -> int | np.ndarray:
    """How many pictures to draw, or pictures to draw again."""
    if isinstance(one, (str, int)) and str(one).isdigit():
        count, shape = int(one), [size, size]
        found: int | np.ndarray = count
    elif isinstance(one, np.ndarray):
        found, count, shape = one, len(one), [*one.shape[1:]]
    elif isinstance(one, (str, Path)):
        image = Path(one).suffix.lower() in pictures.SUFFIXES
        parts = pictures.read([Path(one)], size, BadRecords(False, "")) if not image else {}
        found = images.grey(Path(one), size)[None] if image else np.concatenate([*parts.values()])
        count, shape = len(found), [size, size]
    else:
        raise ConveyorError(f"[predict] expected a number, images, or pictures [N, {size}, {size}], got {one!r:.40}")
    if shape != [size, size] or not 0 < count <= MOST:
        raise ConveyorError(f"[predict] expected 1 to {MOST:,} pictures of {size} x {size}, got {count:,} of {shape}")
    return found


def _drawing(network: Draw, name: str, drawn: Drawn) -> Drawing:
    reach = (network.write_size - 1) / 2
    boxes = []
    for y, x, apart, wide in (box.T for box in drawn.boxes):
        boxes.append(torch.stack([y - 1, x - 1, reach * apart, wide], 1).numpy())
    return Drawing(name, [canvas.sigmoid().numpy() for canvas in drawn.canvases], boxes)


def save(results: list[Drawing], path: Path) -> None:
    """A sheet of all pictures (.png), the drawing of those of the first input (.gif), or arrays (.npz)."""
    if path.suffix == ".gif":
        sheet.film(path, results[0].steps, results[0].boxes)
    elif path.suffix == ".png":
        sheet.write(path, np.concatenate([one.steps[-1] for one in results]))
    else:
        content = io.BytesIO()
        np.savez_compressed(content, pictures=np.concatenate([one.steps[-1] for one in results]))
        files.write(path, content.getvalue())


def show(model: Model, data: Data, folder: Path) -> str:
    """New pictures, how they were drawn, and pictures of the test part beside themselves drawn again."""
    new = predict(model, [36], PredictOptions(), BadRecords(False, ""))
    again = predict(model, [data.test.batch(0, 0).images[:18].numpy()], PredictOptions(), BadRecords(False, ""))
    sheet.write(folder / "new.png", new[0].steps[-1])
    sheet.film(folder / "drawing.gif", [step[:16] for step in new[0].steps], [box[:16] for box in new[0].boxes])
    given = data.test.batch(0, 0).images[:18].numpy() / 255
    sheet.write(folder / "again.png", np.stack([given, again[0].steps[-1]], 1).reshape(-1, *given.shape[1:]))
    shown = (
        ("New ones", "new.png"),
        ("As they are drawn", "drawing.gif"),
        ("Of the test part, and drawn again", "again.png"),
    )
    return "\n\n".join(f"{said}:\n\n![{said}]({file})" for said, file in shown) + "\n"


def smoke(folder: Path) -> Smoke:
    """Bars that stand or lie."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(60):
        bar, place = np.zeros((8, 8), np.uint8), random.integers(8)
        bar[place if n % 2 else slice(None), slice(None) if n % 2 else place] = 255
        content = io.BytesIO()
        Image.fromarray(bar).save(content, "PNG")
        files.write(folder / f"{n:02}.png", content.getvalue())
    config = Config(
        size=8, glimpses=4, read_size=3, write_size=3, hidden_size=32, latent_size=4,
        reading=ReadingOptions(data=(str(folder),)),
        training=TrainingOptions(batch_size=8, epochs=5, learning_rate=0.01),
    )  # fmt: skip
    return Smoke(config, ("4", str(folder / "00.png")))
