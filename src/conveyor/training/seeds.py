"""The same training from several seeds: how far its score is chance, and the ensemble of what was learned."""

from __future__ import annotations

import dataclasses
import statistics
from pathlib import Path
from typing import Any

from conveyor.errors import ConveyorError
from conveyor.training import bundle, files, processes, report
from conveyor.training.fit import fit
from conveyor.training.interruption import Interrupted
from conveyor.training.scoring import score
from conveyor.training.task import Task, name_of


def fit_each(task: Task, config: Any, run: Path, resume: bool = False) -> dict[str, Any]:
    """Train from each seed into `run/seed-N`; with `resume` those that are not done. What the trainings came to."""
    if (run / "model.json").exists() and not resume:
        raise ConveyorError(f"[train] {run}: this run has begun already; go on with --resume, or take another folder")
    if (run / "model.safetensors").exists():
        raise ConveyorError(f"[resume] {run}: expected a run of several seeds, got one of one seed; start a new run")
    first, count = config.training.seed, config.training.seeds
    members = {f"seed-{seed}": seed for seed in range(first, first + count)}
    if processes.first():
        files.write_json(run / "config.json", dataclasses.asdict(config))
        bundle.write_description(run, name_of(task), config, {}, [*members])
    figures = {}
    for name, seed in members.items():
        training = dataclasses.replace(config.training, seed=seed, seeds=1)
        folder = run / name
        going_on = resume and (folder / "model.json").exists()
        try:
            _, figures[name] = fit(task, dataclasses.replace(config, training=training), folder, resume=going_on)
        except Interrupted as error:
            raise error.of(
                f"[train] stopped in {name}; what was learned is in {run}; go on with: "
                f"conveyor train {name_of(task)} --resume {run}"
            ) from None
    if not processes.first():
        return {}
    summary = {"minutes": sum(one["minutes"] for one in figures.values()), **_spread(figures)}
    if hasattr(task, "ensemble"):
        model = bundle.read(run, task)
        test = task.read(model.config, model.facts).test
        summary["ensemble"] = score(task, model.config, model.network, test)
    files.write_json(run / "scores.json", summary)
    report.write_seeds(run, name_of(task), figures, summary)
    return summary


def _spread(figures: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation, over the seeds, of each test score."""
    tests = [one["test"] for one in figures.values()]
    columns = {name: [test[name] for test in tests] for name in tests[0]}
    return {
        "test": {name: statistics.fmean(column) for name, column in columns.items()},
        "spread": {name: statistics.stdev(column) for name, column in columns.items()},
    }
