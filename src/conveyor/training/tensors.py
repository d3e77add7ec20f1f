"""Trees of tensors in one safetensors file: no pickle, so a file from elsewhere can do no harm.

The tensors lie in the file under numbers; the tree around them (dicts, lists, tuples, numbers, texts) is JSON in its
metadata.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save
from torch import Tensor

from conveyor.errors import ConveyorError
from conveyor.training import files

MOST = 20
"""Mistakes that one error names."""


def write(path: Path, tree: Any) -> None:
    """Put a tree at `path`, whole or not at all."""
    tensors: dict[str, Tensor] = {}
    description = json.dumps(_take_apart(tree, tensors))
    files.write(path, save(tensors, {"tree": description}))


def read(path: Path, what: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file, called `what` in the error text."""
    try:
        with safetensors.safe_open(path, framework="pt") as stream:
            return {name: stream.get_tensor(name) for name in stream.keys()}, stream.metadata() or {}  # noqa: SIM118
    except OSError as error:
        raise ConveyorError(f"[{what}] {path}: cannot be read ({error.strerror or error}); check the path") from None
    except safetensors.SafetensorError as error:
        raise ConveyorError(
            f"[{what}] {path}: expected a safetensors file, but it is truncated or foreign ({error}); copy it again"
        ) from None


def read_tree(path: Path, what: str) -> Any:
    """The tree that `write` put at `path`."""
    tensors, metadata = read(path, what)
    try:
        return _put_together(json.loads(metadata["tree"]), tensors)
    except (KeyError, ValueError, TypeError):
        raise ConveyorError(f"[{what}] {path}: expected a file written by Conveyor, got a foreign one") from None


def match(found: dict[str, Tensor], expected: dict[str, Tensor], where: str) -> None:
    """Raise one error that names the tensors that are missing, too many, of a wrong shape or type, or not finite."""
    mistakes = [f"{name} is missing" for name in expected if name not in found]
    mistakes += [f"{name} is not known" for name in found if name not in expected]
    for name in found.keys() & expected.keys():
        got, want = found[name], expected[name]
        if got.shape != want.shape or got.dtype != want.dtype:
            mistakes.append(f"{name}: expected {_shape(want)}, got {_shape(got)}")
        elif not got.isfinite().all():
            mistakes.append(f"{name} has {int((~got.isfinite()).sum())} values that are NaN or infinite")
    if mistakes:
        more = f"; and {len(mistakes) - MOST:,} more" if len(mistakes) > MOST else ""
        raise ConveyorError(f"{where}: {'; '.join(sorted(mistakes)[:MOST])}{more}")


def _shape(tensor: Tensor) -> str:
    return f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _take_apart(tree: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(tree, Tensor):
        tensors[str(len(tensors))] = tree.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"tensor": str(len(tensors) - 1)}
    if isinstance(tree, dict):  # as pairs, because an optimizer's keys are numbers
        return {"dict": [[key, _take_apart(value, tensors)] for key, value in tree.items()]}
    if isinstance(tree, (list, tuple)):
        return {type(tree).__name__: [_take_apart(value, tensors) for value in tree]}
    if tree is None or isinstance(tree, (bool, int, float, str)):
        return tree
    raise TypeError(f"cannot be written: {type(tree).__name__}")


def _put_together(description: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(description, dict):
        return description
    [(kind, value)] = description.items()
    if kind == "tensor":
        return tensors[value]
    if kind == "dict":
        return {key: _put_together(part, tensors) for key, part in value}
    parts = [_put_together(part, tensors) for part in value]
    return tuple(parts) if kind == "tuple" else parts
