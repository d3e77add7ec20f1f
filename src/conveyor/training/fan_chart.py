"""Forecasts of time series as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.dates import ConciseDateFormatter

from conveyor.data.windows import Row, Windows
from conveyor.training import pictures


def fan_chart(
    path: Path, windows: Windows, rows: Sequence[Row], quantiles: np.ndarray, levels: Sequence[float]
) -> None:
    """What was known, what came, the median and the intervals, a panel a series."""
    columns, h = min(2, len(rows)), windows.horizon
    figure = pictures.figure(5.5 * columns, 0.4 + 2.3 * -(-len(rows) // columns))
    for n, (row, forecast) in enumerate(zip(rows, quantiles, strict=True)):
        axes = figure.add_subplot(-(-len(rows) // columns), columns, n + 1)
        one = windows.series[row.series]
        seen, behind = slice(max(0, row.end - 3 * h), row.end + h), slice(row.end, row.end + h)
        axes.plot(one.times[seen].to_list(), one.values[seen], color="black", linewidth=1, zorder=3, label="values")
        times = one.times[behind].to_list()
        for low in range(len(levels) // 2):
            shade = 0.9 - 0.45 * low / (len(levels) // 2)
            label = f"{100 * (levels[-1 - low] - levels[low]):g} %"
            edges = forecast[:, low], forecast[:, -1 - low]
            axes.fill_between(times, *edges, color=(shade - 0.1, shade, 1), linewidth=0, label=label)
        axes.plot(times, forecast[:, len(levels) // 2], color="C1", linewidth=1.5, label="median")
        axes.set_title(one.name, fontsize=9, loc="left")
        axes.tick_params(labelsize=7)
        if not isinstance(times[0], int):
            axes.xaxis.set_major_formatter(ConciseDateFormatter(axes.xaxis.get_major_locator()))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=9, fontsize=8, frameon=False)
    pictures.write(path, figure)
