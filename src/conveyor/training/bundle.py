"""Model bundles: `model.json` says what the network is, `model.safetensors` holds its weights. No pickle.

A bundle lies in its run's folder, and may be copied from there; the two files are all that prediction needs.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from conveyor import __version__
from conveyor.errors import ConveyorError
from conveyor.training import files, tensors
from conveyor.training.options import from_json
from conveyor.training.task import Model, Task, name_of

FORMAT = "conveyor-model-1"
PARTS = {"task": str, "config": dict, "facts": dict}


def write_description(folder: Path, task: str, config: Any, facts: dict[str, Any], members: Sequence[str] = ()) -> None:
    """Say what the network is; `task` is its name on the command line, `members` the folders of an ensemble's."""
    description = {"format": FORMAT, "conveyor": __version__, "task": task, "facts": facts}
    if members:
        description["members"] = list(members)
    files.write_json(folder / "model.json", description | {"config": dataclasses.asdict(config)})


def write_weights(folder: Path, network: nn.Module) -> None:
    """Put the network's weights beside, whole or not at all."""
    weights = {name: weight.detach().cpu().clone() for name, weight in network.state_dict().items()}
    files.write(folder / "model.safetensors", save(weights))


def read_description(folder: Path) -> dict[str, Any]:
    """What `write_description` wrote, checked to be that."""
    path = folder / "model.json"
    if not os.path.exists(path):  # not Path.exists, which raises where it may not look
        runs = sorted(found.parent.name for found in folder.parent.glob("*/model.json")) if folder.name else []
        near = difflib.get_close_matches(folder.name, runs, 3) or runs[-3:]
        more = f" and {len(runs) - len(near)} more" if len(runs) > len(near) else ""
        named = ", ".join(str(folder.parent / name) for name in near)
        there = f"there are {named}{more}" if near else "conveyor train makes one, and says where"
        raise ConveyorError(f"[bundle] {folder}: expected a run's folder, with a model.json that may be read; {there}")
    description = files.read_json(path, "bundle")
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        got = description.get("format") if isinstance(description, dict) else type(description).__name__
        raise ConveyorError(f"[bundle] {path}: expected a model of format {FORMAT}, got {got}; give a run's folder")
    wrong = [name for name, kind in PARTS.items() if not isinstance(description.get(name), kind)]
    if wrong:
        raise ConveyorError(f"[bundle] {path}: {', '.join(wrong)} missing or of a wrong type; copy the file again")
    return description


def read(folder: Path, task: Task) -> Model:
    """The trained model; its weights are checked against its description before any is used."""
    description = read_description(folder)
    if members := description.get("members"):
        return _ensemble(folder, task, members)
    config = from_json(task.Config, description["config"], str(folder / "model.json"))
    facts = description["facts"]
    with torch.device("meta"):  # shapes alone, so that a wrong description costs no memory
        network = task.network(config, facts)
    weights, _ = tensors.read(folder / "model.safetensors", "bundle")
    tensors.match(weights, network.state_dict(), f"[bundle] {folder / 'model.safetensors'}")
    network.load_state_dict(weights, assign=True)
    return Model(task, config, facts, network.eval())


def _ensemble(folder: Path, task: Task, members: Any) -> Model:
    """Several trainings of one network as one model."""
    names = members if isinstance(members, list) else []
    if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise ConveyorError(f"[bundle] {folder / 'model.json'}: expected names of folders as members, got {members!r}")
    join = getattr(task, "ensemble", None)
    if join is None:
        raise ConveyorError(
            f"[bundle] {folder}: the networks of {name_of(task)} are not put together; take one: {folder / names[0]}"
        )
    models = [read(folder / name, task) for name in names]
    return models[0]._replace(network=join([model.network for model in models]).eval())
