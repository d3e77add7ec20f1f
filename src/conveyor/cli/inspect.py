"""Look at the gates of a run's model over inputs of your own, in the browser."""

from __future__ import annotations

import signal
import time
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from conveyor import tasks
from conveyor.cli import wants_help
from conveyor.errors import ConveyorError
from conveyor.training.task import Model, name_of

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
    from conveyor.data import text
    from conveyor.inspect import page, server, tables
    from conveyor.inspect.answers import EXAMPLES, Answers
    from conveyor.inspect.recording import Recording, record

    asked = parse(Inspect, args[1:], "conveyor inspect RUN", Inspect())
    folders = [Path(args[0]), *asked.beside]
    models = [_load(folder) for folder in folders]
    for folder, model in zip(folders, models, strict=True):
        if model.task is not models[0].task:
            raise ConveyorError(
                f"[inspect] --beside: expected runs of {name_of(models[0].task)}, got {folder} of {name_of(model.task)}"
            )
    typed = bool(getattr(models[0].task, "TYPED", False))
    inputs = asked.inputs or (tuple(example.text for example in EXAMPLES) if typed else ())
    if not inputs:
        raise ConveyorError("[inspect] nothing to read; give INPUT behind RUN")
    if asked.output and asked.output.suffix not in (".html", *tables.ENDINGS):
        endings = ", ".join((".html", *tables.ENDINGS))
        raise ConveyorError(f"[inspect] --output: expected a name that ends in {endings}, got {asked.output}")

    def recorded(one: Model, given: str, folder: Path) -> Recording:
        named = given if typed else Path(given).name
        short = named if len(named) <= 40 else f"{named[:39]}…"
        return record(one, given, f"{short} ({folder.stem})" if len(folders) > 1 else short)

    def all_recorded() -> list[Recording]:
        found = [recorded(one, given, folder) for given in inputs for one, folder in zip(models, folders, strict=True)]
        if asked.corpus:
            content = text.read(asked.corpus) if typed else str(asked.corpus)
            found.append(record(models[0], content, asked.corpus.name))
        return found

    about = {
        "corpus": len(inputs) * len(folders) if asked.corpus and not asked.output else None,
        "run": str(folders[0]),
        "task": name_of(models[0].task),
        "typed": typed and asked.output is None,
    }
    answers = Answers(all_recorded(), about)
    if asked.output:
        write = page.write if asked.output.suffix == ".html" else tables.write
        write(answers, asked.output)
        return
    read = (lambda given: recorded(models[0], given, folders[0])) if typed else None
    with server.Server(answers, read, asked.port) as served:
        print(f"{served.address}  (Ctrl-C ends it)", flush=True)
        if asked.browser:
            webbrowser.open(served.address)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        seen = _changed(folders[0])
        while served.thread.is_alive():
            time.sleep(EVERY)
            now = _changed(folders[0])
            if asked.follow and now != seen:
                seen, models[0] = now, _load(folders[0])
                answers.replace(all_recorded())


def _load(path: Path) -> Model:
    """The model of a run, or what it was at a checkpoint."""
    if path.suffix != ".safetensors":
        return tasks.load(path)
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
