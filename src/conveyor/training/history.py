"""The metrics of a run as a CSV file: a line each time something was measured, a column a figure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger

from conveyor.errors import ConveyorError
from conveyor.training import files

Row = dict[str, float]


class History(Logger):
    """Lightning's logger onto `metrics.csv`; a run that goes on keeps the lines up to its checkpoint's step."""

    def __init__(self, path: Path, last_step: int) -> None:
        super().__init__()
        self.path = path
        self.rows = [row for row in read(path) if row["step"] <= last_step] if path.exists() else []
        self.columns = list(dict.fromkeys(name for row in self.rows for name in row))
        self._write_all()

    @property
    def name(self) -> str:
        """The file's name, for Lightning."""
        return self.path.name

    @property
    def version(self) -> int:
        """There is one a run."""
        return 0

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """They are in `config.json`."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add a line; a new figure becomes a new column."""
        row: Row = {"step": step or 0, **metrics}
        self.rows.append(row)
        if row.keys() - set(self.columns):
            self.columns = list(dict.fromkeys([*self.columns, *row]))
            self._write_all()
            return
        with files.writing(self.path), self.path.open("a", newline="") as stream:
            csv.DictWriter(stream, self.columns).writerow(row)

    def _write_all(self) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns)
        writer.writeheader()
        writer.writerows(self.rows)
        files.write(self.path, text.getvalue().encode())


def read(path: Path) -> list[Row]:
    """The lines of a metrics file; a last line that was cut off while being written is left out."""
    try:
        return [*_rows(path.read_text().rpartition("\n")[0])]
    except (OSError, ValueError, csv.Error) as error:
        raise ConveyorError(f"[resume] {path}: expected lines of numbers ({error}); mend it, or move it away") from None


def _rows(text: str) -> Iterator[Row]:
    lines = csv.reader(io.StringIO(text))
    columns = next(lines, [])
    for cells in lines:
        if len(cells) != len(columns):
            raise ValueError(f"{len(cells)} columns instead of {len(columns)}")
        row = {name: _number(cell) for name, cell in zip(columns, cells, strict=True) if cell}
        if "step" not in row:
            raise ValueError("a line has no step")
        yield row


def _number(text: str) -> float:
    return int(text) if text.isdecimal() else float(text)
