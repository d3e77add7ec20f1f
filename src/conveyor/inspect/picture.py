"""The gates of one layer over a text, as a picture."""

from collections.abc import Sequence
from os import PathLike

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, SymLogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from conveyor.equations import Gates

PANELS = {
    "f": "Forget gate: how much of the belt is kept",
    "i": "Input gate: how much of the candidate is put on it",
    "o": "Output gate: how much of it is shown",
    "c": "Cell state: the belt (line: mean size)",
}
ROWS = 64  # more units than this do not stay apart in print


def picture(gates: Gates, tokens: Sequence[str], path: str | PathLike[str], *, title: str = "") -> None:
    """Draw forget, input and output gate and the cell state over a text, unit by unit, into a PNG.

    `gates` are those of one layer and direction as `conveyor.inspect.gates` gives them, each [T, B, H], of
    which the first row of the batch is drawn; `tokens` are the T inputs. The units stand in one order in all
    four maps, those that forget least on top; of more than 64, 64 are drawn, evenly chosen in that order. The
    line above a map is the mean over all units.

    Raises ValueError if the tokens are not as many as the steps.

    >>> from tempfile import TemporaryDirectory
    >>> import torch
    >>> with TemporaryDirectory() as folder:
    ...     picture(Gates(*torch.rand(5, 8, 1, 32)), list("conveyor"), f"{folder}/gates.png", title="A belt")
    """
    values = {name: getattr(gates, name)[:, 0].detach().double().cpu().numpy() for name in PANELS}
    T, H = values["f"].shape
    if len(tokens) != T:
        raise ValueError(f"[picture] tokens: expected one for each of T = {T} steps, got {len(tokens)}")
    units = order(values["f"])
    figure = Figure(figsize=(max(7.0, 1.6 + 0.22 * T), 12), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=14, parse_math=False)
    cells = figure.add_gridspec(2 * len(PANELS), 1, height_ratios=[1, 5] * len(PANELS))
    for number, (name, meaning) in enumerate(PANELS.items()):
        line, heat = (figure.add_subplot(cells[2 * number + half]) for half in (0, 1))
        line.set_title(meaning, loc="left", fontsize=11)
        _line(line, np.abs(values[name]).mean(axis=1))
        _map(heat, values[name][:, units].T, tokens, signed=name == "c")
        heat.set_ylabel(f"{len(units)} of {H} units", fontsize=9)
    note = "All maps show the same units, those that forget least on top; the lines are means over all units."
    figure.supxlabel(note, fontsize=9)
    figure.savefig(path, format="png", dpi=130)


def order(f: NDArray[np.float64]) -> NDArray[np.intp]:
    """The units to draw, of forget gates [T, H]: those that forget least first."""
    units: NDArray[np.intp] = np.argsort(-f.mean(axis=0), kind="stable")
    return np.take(units, np.unique(np.linspace(0, len(units) - 1, ROWS).round().astype(int)))


def _line(line: Axes, mean: NDArray[np.float64]) -> None:
    line.plot(mean, color="#1b3a5c", linewidth=1.5, marker="o", markersize=2.5)
    line.set_xlim(-0.5, len(mean) - 0.5)
    line.locator_params(axis="y", nbins=3)
    line.tick_params(labelsize=8, labelbottom=False, bottom=False)
    line.grid(axis="y", color="0.9")
    line.spines[["top", "right", "bottom"]].set_visible(False)


def _map(heat: Axes, values: NDArray[np.float64], tokens: Sequence[str], *, signed: bool) -> None:
    # The belt has no bound: logarithmic beyond ±1, so that a few full units do not bleach the others.
    high = max(1.0, float(np.abs(values).max()))
    norm = SymLogNorm(linthresh=1, vmin=-high, vmax=high) if signed else Normalize(0, 1)
    colours = "RdBu_r" if signed else "GnBu"
    image = heat.imshow(values, aspect="auto", interpolation="none", cmap=colours, norm=norm)
    heat.figure.colorbar(image, ax=heat, pad=0.008, fraction=0.02).ax.tick_params(labelsize=8)
    names = [token.replace(" ", "␣").replace("\n", "⏎") for token in tokens]
    upright = max(map(len, names)) > 2
    heat.set_xticks(range(len(names)), names, family="monospace", fontsize=10, rotation=90 * upright, parse_math=False)
    heat.set_xticks(np.arange(len(names)) - 0.5, minor=True)
    heat.grid(axis="x", which="minor", color="white", linewidth=0.6)
    heat.tick_params(which="both", length=0)
    heat.set_yticks([])
    heat.spines[:].set_visible(False)
