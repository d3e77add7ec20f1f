"""A run from its options to its report, new or gone on with."""

from __future__ import annotations

import dataclasses
import logging
import os
import statistics
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from conveyor.data import catalog
from conveyor.errors import ConveyorError
from conveyor.training import bundle, checkpoint, files, machine, processes, randomness, report
from conveyor.training.board import Board
from conveyor.training.display import Display
from conveyor.training.history import History
from conveyor.training.interruption import Interruption
from conveyor.training.learner import Learner
from conveyor.training.options import TrainingOptions
from conveyor.training.scoring import score
from conveyor.training.task import Model, Task, name_of
from conveyor.training.validation import Validation


def new_run(runs: Path, name: str) -> Path:
    """A folder for a new run that is not there yet: `runs/<name>/<time>`."""
    first = runs / name / f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
    run, number = first, 1
    while os.path.exists(run):  # not Path.exists, which raises where it may not look; writing will tell
        number += 1
        run = first.with_name(f"{first.name}_{number}")
    return run


def fit(task: Task, config: Any, run: Path, resume: bool = False) -> tuple[Model, dict[str, Any]]:
    """Train into the folder `run`, or with `resume` go on there; the best model, and what the run came to.

    A run killed at any moment and gone on with ends with the same weights, bit for bit, as one that never stopped. Of
    several processes the first writes the run; when it is done, all have the model, and the first its figures.
    """
    learner, history = train(task, config, run, resume)
    model = bundle.read(run, task)
    if not history:
        return model, {}
    test = score(task, config, model.network.to(learner.device), learner.data.test)
    model.network.cpu()
    figures = _figures(learner, history.rows) | {"test": test}
    report.write(run, model, learner.data, history.rows, figures)
    return model, figures


def train(task: Task, config: Any, run: Path, resume: bool = False) -> tuple[Learner, History | None]:
    """The training alone, its best model in `run`; the test part is not looked at."""
    processes.join()
    going_on = checkpoint.begun(run, resume)
    learner = begin(task, config, bundle.read_description(run)["facts"] if resume else None)
    if going_on:
        learner.progress = checkpoint.progress(checkpoint.last(run), learner)
    history = None
    if processes.first():
        history = History(run / "metrics.csv", learner.progress.step)
        files.write_json(run / "config.json", dataclasses.asdict(learner.config))
        bundle.write_description(run, name_of(task), learner.config, learner.data.facts)
        weights = sum(weight.numel() for weight in learner.network.parameters())
        print(f"{name_of(task)}: {learner.data.summary}; {weights:,} weights; {run}", flush=True)
    if learner.done:
        step = learner.progress.step
        print(f"already at its end, step {step:,}; --epochs, --max-steps or --patience let it go on", flush=True)
    else:
        _train(learner, run, history, going_on)
    return learner, history


def begin(task: Task, config: Any, facts: dict[str, Any] | None) -> Learner:
    """A training at its beginning; nothing is written yet."""
    options: TrainingOptions = config.training
    machine.check_device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    randomness.seed(options.seed)
    if options.batch_size < processes.count():
        raise ConveyorError(
            f"[train] --batch-size: expected {processes.count()} or more, one a process, got {options.batch_size}"
        )
    reading = dataclasses.replace(config.reading, data=catalog.locate(config.reading.data))
    config = dataclasses.replace(config, reading=reading)
    data = task.read(config, facts)
    with torch.device("meta"):
        machine.check_memory(task.network(config, data.facts))
    network = task.network(config, data.facts)
    if processes.index():
        randomness.seed(options.seed + processes.index())  # the same network, but dropout of its own
    return Learner(task, config, data, network)


def _train(learner: Learner, run: Path, history: History | None, going_on: bool) -> None:
    """Train up to the end, or an exception."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    loggers = [history, Board(run / "tensorboard", learner.progress.step)] if history else []
    together = processes.count() > 1
    with Interruption(run, f"conveyor train {name_of(learner.task)}") as interruption, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`isinstance", FutureWarning)  # Lightning 2.6 on torch 2.13
        trainer = Trainer(
            accelerator=learner.options.device,
            devices=int(os.environ["LOCAL_WORLD_SIZE"]) if together else 1,
            num_nodes=processes.count() // int(os.environ["LOCAL_WORLD_SIZE"]) if together else 1,
            strategy="ddp" if together else "auto",
            use_distributed_sampler=False,
            max_epochs=-1,  # the learner says when it is done
            reload_dataloaders_every_n_epochs=1,  # a span each
            gradient_clip_val=learner.options.clip_norm,
            logger=loggers,
            plugins=[checkpoint.SafeCheckpointIO()],
            callbacks=[
                checkpoint.Keeper(run, learner, interruption),
                Validation(run, learner),
                *([Display(learner)] if history else []),
            ],
            enable_progress_bar=bool(history),
            log_every_n_steps=1,
            enable_checkpointing=False,
            enable_model_summary=False,
        )
        with machine.matmul_precision(learner.options.matmul_precision):
            trainer.fit(learner, ckpt_path=checkpoint.last(run) if going_on else None)


def _figures(learner: Learner, rows: list[dict[str, float]]) -> dict[str, Any]:
    """What the run came to, but for the test."""
    progress, speed = learner.progress, f"{learner.task.UNIT}_per_second"
    return {
        "steps": progress.step,
        "epochs": progress.step / learner.batches,
        "minutes": progress.seconds / 60,
        speed: statistics.median([row[speed] for row in rows if speed in row] or [0]),
        "best_valid": progress.best,
        "threads": torch.get_num_threads(),
    }
