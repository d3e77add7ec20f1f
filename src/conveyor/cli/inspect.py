"""Look at the gates of a run's model over inputs of your own, in the browser."""

from __future__ import annotations

import signal
import sys
import time
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from conveyor import tasks
from conveyor.cli import wants_help
from conveyor.errors import ConveyorError
from conveyor.training.task import Model, name_of

if TYPE_CHECKING:
    from conveyor.inspect.recording import Recording

EVERY = 1.0
"""Seconds between two looks at a run that is followed."""


@dataclass(kw_only=True)
class Inspect:
    """Look at the gates."""

    inputs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="INPUT…")] = ()
    """What the model reads: texts, or files, as its task takes them; of a language model the textbooks' sentences."""
    beside: tuple[Path, ...] = ()
    """Other runs of the same task, or checkpoints (RUN/checkpoints/NAME.safetensors), which read the same."""
    corpus: Path | None = None
    """A longer input, in a text file where the task takes texts: units and places are looked for in it."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Write the page into this file (.html), or all numbers (.npz, .parquet), in place of serving it."""
    port: int = 0
    """Of the page's address; 0 takes a free one."""
    follow: bool = False
    """Read anew whenever the run, still in training, has a better model."""
    browser: bool = True
    """Open the page in the browser."""


def run(args: list[str]) -> None:
    """Record, then serve or write."""
    if wants_help(
        args, "usage: conveyor inspect RUN [INPUT…] [-o FILE]; conveyor inspect RUN --help lists the options"
    ):
        return
    from conveyor.cli._parse import parse
    from conveyor.inspect import page, server, tables
    from conveyor.inspect.answers import Answers

    asked = parse(Inspect, args[1:], "conveyor inspect RUN", Inspect())
    endings = (".html", *tables.ENDINGS)
    if asked.output and asked.output.suffix not in endings:
        raise ConveyorError(
            f"[inspect] --output: expected a name that ends in {', '.join(endings)}, got {asked.output}"
        )
    if asked.follow and asked.output:
        raise ConveyorError("[inspect] --follow: expected a page that is served, not --output; leave one of them out")
    readers = Readers(asked, Path(args[0]))
    answers = Answers(readers.all(), readers.about)
    if asked.output:
        write = page.write if asked.output.suffix == ".html" else tables.write
        write(answers, asked.output)
        long = max(len(layer) for one in answers.recordings for layer in one.layers)
        if asked.output.suffix == ".html" and long > page.MOST_STEPS:
            print(
                f"{asked.output}: without Memory, Learn and spans, which one file holds of {page.MOST_STEPS} steps at "
                f"most, and there are {long:,}; leave out -o for them"
            )
        return
    read = (lambda given: readers.read(0, given)) if readers.typed else None
    with server.Server(answers, read, asked.port) as served:
        print(f"{served.address}  (Ctrl-C ends it)", flush=True)
        if asked.browser:
            webbrowser.open(served.address)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        seen = _changed(readers.folders[0])
        while served.thread.is_alive():
            time.sleep(EVERY)
            now = _changed(readers.folders[0])
            if asked.follow and now != seen:
                seen, readers.models[0] = now, _load(readers.folders[0])
                answers.replace(readers.all())


class Readers:
    """The models that read, and what they read."""

    def __init__(self, asked: Inspect, run: Path) -> None:
        from conveyor.inspect.answers import EXAMPLES

        self.folders = [run, *asked.beside]
        self.models = [_load(folder) for folder in self.folders]
        task = self.models[0].task
        for folder, model in zip(self.folders, self.models, strict=True):
            if model.task is not task:
                raise ConveyorError(
                    f"[inspect] --beside: expected runs of {name_of(task)}, got {folder} of {name_of(model.task)}"
                )
        self.typed, self.corpus = bool(getattr(task, "TYPED", False)), asked.corpus
        self.inputs = asked.inputs or (tuple(example.text for example in EXAMPLES) if self.typed else ())
        if not self.inputs:
            raise ConveyorError("[inspect] nothing to read; give INPUT behind RUN")
        served = asked.output is None
        self.about = {
            "corpus": len(self.inputs) * len(self.folders) if self.corpus and served else None,
            "run": str(run),
            "task": name_of(task),
            "typed": self.typed and served,
        }

    def read(self, n: int, given: str) -> Recording:
        """What model n makes of an input."""
        from conveyor.inspect.recording import record

        named = given if self.typed else Path(given).name
        if self.typed and n == 0 and len(given) < 256 and Path(given).is_file():
            print(f"{given}: read as a text itself; what stands in a file is read with --corpus", file=sys.stderr)
        short = named if len(named) <= 40 else f"{named[:39]}…"
        return record(self.models[n], given, f"{short} ({self.folders[n].stem})" if self.folders[1:] else short)

    def all(self) -> list[Recording]:
        """Every input as every model reads it, and the corpus behind them."""
        from conveyor.data import text
        from conveyor.inspect.recording import record

        found = [self.read(n, given) for given in self.inputs for n in range(len(self.models))]
        if self.corpus:
            content = text.read(self.corpus) if self.typed else str(self.corpus)
            found.append(record(self.models[0], content, self.corpus.name))
        return found


def _load(path: Path) -> Model:
    """The model of a run, or what it was at a checkpoint."""
    if path.suffix != ".safetensors":
        return tasks.load(path)
    if path.parent.name != "checkpoints":
        raise ConveyorError(
            f"[inspect] {path}: expected a run's folder, or a file of its checkpoints; give {path.parent}"
        )
    from conveyor.training import checkpoint

    model = tasks.load(path.parent.parent)
    checkpoint.load_weights(path, model.network)
    return model


def _changed(folder: Path) -> float:
    """When the run's model was last written; 0 while there is none."""
    try:
        return (folder / "model.safetensors").stat().st_mtime
    except OSError:
        return 0.0
