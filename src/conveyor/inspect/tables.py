"""All numbers of recordings, as files that other programs read."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from conveyor.inspect.answers import Answers
from conveyor.inspect.recording import QUANTITIES
from conveyor.training import files

ENDINGS = (".npz", ".parquet")


def write(answers: Answers, path: Path) -> None:
    """The gates of every layer at every step.

    .npz: `RECORDING/LAYER/q` [steps, units] for each quantity q, and `RECORDING/labels`, or
    `RECORDING/LAYER/labels` where a layer goes in steps of its own; .parquet: a row for each recording, layer, step and
    unit, with its label and the quantities.
    """
    content = io.BytesIO()
    if path.suffix == ".npz":
        arrays: dict[str, np.ndarray] = {}
        for r, one in enumerate(answers.recordings):
            arrays[f"{r}/labels"] = np.array(one.labels)
            for n, layer in enumerate(one.layers):
                part = one.at(n)
                arrays |= {f"{r}/{layer.name}/{q}": getattr(part, q) for q in QUANTITIES}
                if (own := one.track(layer)) is not one:
                    arrays[f"{r}/{layer.name}/labels"] = np.array(own.labels)
        np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    else:
        import polars as pl

        frames = []
        for one in answers.recordings:
            for n, layer in enumerate(one.layers):
                part, count = one.at(n), len(layer)
                steps, units = (grid.ravel() for grid in np.mgrid[:count, : layer.units].astype(np.int32))
                labels = np.array(one.track(layer).labels)
                columns = {"label": labels[steps], "step": steps, "unit": units}
                values = {q: getattr(part, q).ravel() for q in QUANTITIES}
                of = [pl.lit(one.title).alias("recording"), pl.lit(layer.name).alias("layer")]
                frames.append(pl.DataFrame(columns | values).with_columns(of))
        pl.concat(frames).write_parquet(content)
    files.write(path, content.getvalue())
