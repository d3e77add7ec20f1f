"""Recurrent layers of Keras 3's files, without Keras: `.keras`, and `.weights.h5`, which say no activations.

Keras holds kernels [I, G H] for products from the left, with the gates in the order i f c o and z r h; one bias of an
LSTM and a SimpleRNN, two of a GRU (`reset_after`).
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from conveyor.errors import ConveyorError
from conveyor.interchange.layers import KINDS, Layer, Layers, activated, as_array, layer, reordered
from conveyor.nn import GRU, LSTM
from conveyor.variant import Activation

ORDER = {"LSTM": (0, 1, 2, 3), "GRU": (1, 0, 2), "RNN": (0,)}
"""Of Keras's gates in torch's, and back."""
ACTIVATIONS: dict[str, Activation] = {
    "tanh": "tanh", "sigmoid": "sigmoid", "relu": "relu", "linear": "identity", "softsign": "softsign",
    "softplus": "softplus", "elu": ("elu", 1.0), "leaky_relu": ("leaky-relu", 0.2),
    "hard_sigmoid": ("hard-sigmoid", 1 / 6, 0.5),
}  # fmt: skip
CLASSES = {"LSTM": "LSTM", "GRU": "GRU", "SimpleRNN": "RNN"}
LARGEST = 1 << 33
"""Bytes of weights in an archive."""


def read(path: Path) -> Layers:
    """Its recurrent layers, by the names that Keras gave them."""
    try:
        if not zipfile.is_zipfile(path):
            with h5py.File(path) as file:
                return _layers(path, file, {})
        with zipfile.ZipFile(path) as archive:
            configs = {
                one["name"]: one | {"class": kind} for kind, one in _configs(json.loads(archive.read("config.json")))
            }
            if archive.getinfo("model.weights.h5").file_size > LARGEST:
                raise ConveyorError(f"[import] {path}: expected weights of at most {LARGEST:,} bytes")
            with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
                return _layers(path, file, configs)
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RecursionError, zipfile.BadZipFile) as error:
        raise ConveyorError(f"[import] {path}: expected a file of Keras 3, but {error}") from None


def _configs(value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every recurrent layer in a description, with its class."""
    if isinstance(value, dict):
        own = value.get("config")
        if value.get("class_name") in (*CLASSES, "Bidirectional") and isinstance(own, dict):
            yield value["class_name"], own
        if value.get("class_name") != "Bidirectional":
            value = [*value.values()]
    if isinstance(value, list):
        for one in value:
            yield from _configs(one)


def _layers(path: Path, file: h5py.File, configs: dict[str, dict[str, Any]]) -> Layers:
    cells: list[str] = []
    file.visit(lambda name: cells.append(name) if name.endswith("cell/vars") and "0" in file[name] else None)
    found: Layers = {}
    for cell in cells:
        place = cell.removesuffix("/cell/vars")
        if place.endswith("backward_layer"):
            continue
        both = place.endswith("forward_layer")
        owner = place.rpartition("/")[0] if both else place
        name = str(file[owner]["vars"].attrs.get("name", owner)) if "vars" in file[owner] else owner
        cells_of = [cell, cell.replace("forward_layer", "backward_layer")] if both else [cell]
        where = f"{path}: {name}"
        config = configs.get(name)
        if config is None and configs:
            raise ConveyorError(f"[import] {where}: config.json does not tell of it")
        found[name if name not in found else owner] = _layer(
            where, [_arrays(file[one]) for one in cells_of], config, both
        )
    places = {name: n for n, name in enumerate(configs)}  # HDF5 has them by their names, config.json as the model does
    return {name: found[name] for name in sorted(found, key=lambda name: places.get(name, len(places)))}


def _arrays(group: h5py.Group) -> list[np.ndarray]:
    return [np.asarray(group[str(n)], np.float32) for n in range(len(group))]


def _layer(where: str, directions: list[list[np.ndarray]], config: dict[str, Any] | None, both: bool) -> Layer:
    kernel, recurrent = directions[0][:2]
    gates = kernel.shape[1] / recurrent.shape[0]
    if gates not in KINDS or kernel.shape[1] != recurrent.shape[1]:
        raise ConveyorError(
            f"[import] {where}: expected kernels [I, G H] and [H, G H], got {[*kernel.shape]} and {[*recurrent.shape]}"
        )
    kind = KINDS[int(gates)]
    of = _checked(where, kind, config, both)
    arrays = [_placed(where, kind, one) for one in directions]
    if kind == "LSTM":
        variant = activated(of["recurrent_activation"], of["activation"], of["activation"])
        return layer(kind, arrays, variant=variant)
    plain = {"GRU": ("sigmoid", "tanh"), "RNN": ("sigmoid", of["activation"])}[kind]
    if (of["recurrent_activation"], of["activation"]) != plain or of["activation"] not in ("tanh", "relu"):
        raise ConveyorError(
            f"[import] {where}: {kind}: expected activations that torch's has too, "
            f"got {of['activation']}, {of['recurrent_activation']}"
        )
    return layer(kind, arrays, nonlinearity=str(of["activation"]))


def _checked(where: str, kind: str, config: dict[str, Any] | None, both: bool) -> dict[str, Activation]:
    """The activations; ConveyorError for what is not to be had here."""
    usual: dict[str, Activation] = {"activation": "tanh", "recurrent_activation": "sigmoid"}
    if config is None:
        return usual
    inner = config["layer"]["config"] if both else config
    if both and config.get("merge_mode") != "concat":
        raise ConveyorError(f"[import] {where}: expected merge_mode concat, got {config.get('merge_mode')}")
    if inner.get("go_backwards"):
        raise ConveyorError(
            f"[import] {where}: expected a layer that reads forwards, or Bidirectional, got go_backwards"
        )
    if kind == "GRU" and not inner.get("reset_after", True):
        raise ConveyorError(f"[import] {where}: expected reset_after=True, the GRU of torch and cuDNN")
    for name in usual:
        given = inner.get(name, usual[name])
        if given not in ACTIVATIONS:
            raise ConveyorError(
                f"[import] {where}: {name}: expected one of {', '.join(ACTIVATIONS)}, got {given!r:.60}"
            )
        usual[name] = ACTIVATIONS[given]
    return usual


def _placed(where: str, kind: str, arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
    """By torch's names and in its order."""
    kernel, recurrent, *bias = arrays
    order = ORDER[kind]
    found = {"weight_ih": reordered(kernel.T, order), "weight_hh": reordered(recurrent.T, order)}
    if bias:
        both = bias[0] if bias[0].ndim == 2 else np.stack([bias[0], np.zeros_like(bias[0])])
        if both.shape != (2, kernel.shape[1]):
            raise ConveyorError(
                f"[import] {where}: bias: expected {[kernel.shape[1]]} or {[2, kernel.shape[1]]}, "
                f"got {[*bias[0].shape]}"
            )
        found |= {"bias_ih": reordered(both[0], order), "bias_hh": reordered(both[1], order)}
    return found


def to_bytes(layers: Layers) -> bytes:
    """A `.weights.h5` of a Sequential model of these layers, as `load_weights` reads it; stacked ones one by one."""
    content, counts = io.BytesIO(), dict[str, int]()
    with h5py.File(content, "w") as file:
        file.create_group("vars")
        for name, one in layers.items():
            if not isinstance(one, (LSTM, GRU)) and one.nonlinearity not in ("tanh", "relu"):
                raise ConveyorError(f"[export] {name}: expected tanh or relu")
            if getattr(one, "proj_size", 0) or getattr(one, "variant", "lstm") != "lstm":
                raise ConveyorError(
                    f"[export] {name}: expected a plain LSTM: Keras has neither projections nor variants"
                )
            for part in range(one.num_layers):
                _write(file, counts, one, part, name if one.num_layers == 1 else f"{name}_{part}")
    return content.getvalue()


def _write(file: h5py.File, counts: dict[str, int], one: Layer, part: int, name: str) -> None:
    kind = "LSTM" if isinstance(one, LSTM) else "GRU" if isinstance(one, GRU) else "RNN"
    stem = "bidirectional" if one.bidirectional else {"LSTM": "lstm", "GRU": "gru", "RNN": "simple_rnn"}[kind]
    place = f"layers/{stem}" + (f"_{counts[stem]}" if stem in counts else "")
    counts[stem] = counts.get(stem, 0) + 1
    sides = ["/forward_layer", "/backward_layer"] if one.bidirectional else [""]
    file.create_group(f"{place}/vars").attrs["name"] = name
    for d, side in enumerate(sides):
        weights = one.all_weights[part * len(sides) + d]
        group = file.create_group(f"{place}{side}/cell/vars")
        if side:
            file.create_group(f"{place}{side}/vars")
        w_ih, w_hh, *biases = (reordered(as_array(weight), ORDER[kind]) for weight in weights)
        arrays = [w_ih.T, w_hh.T]
        if biases:
            arrays.append(np.stack(biases) if kind == "GRU" else biases[0] + biases[1])
        for n, array in enumerate(arrays):
            group.create_dataset(str(n), data=array)
