"""Recurrent layers of Keras 3's files, without Keras: `.keras`, and `.weights.h5`, which say no activations.

Keras holds kernels [I, G H] for products from the left, with the gates in the order i f c o and z r h; one bias of an
LSTM and a SimpleRNN, two of a GRU (`reset_after`).
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from conveyor.errors import ConveyorError
from conveyor.interchange import modules
from conveyor.interchange.layers import (
    KINDS,
    Layer,
    Layers,
    activated,
    as_array,
    distinct,
    layer,
    natural,
    reading,
    reordered,
)
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
CONFIG, WEIGHTS = "config.json", "model.weights.h5"
LARGEST = 1 << 33
"""Bytes in an archive, of what is read."""
Arrays = list[np.ndarray]
Config = dict[str, Any]


def read(path: Path) -> Layers:
    """Its recurrent layers, by the names that Keras gave them."""
    configs = None
    with reading(path, "a file of Keras 3"):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if (size := sum(archive.getinfo(name).file_size for name in (CONFIG, WEIGHTS))) > LARGEST:
                    raise ConveyorError(f"[import] {path}: expected at most {LARGEST:,} bytes, got {size:,}")
                content, configs = archive.read(WEIGHTS), _configs(json.loads(archive.read(CONFIG)))
        else:
            content = path.read_bytes()
        _check_heaps(path, content)
        with h5py.File(io.BytesIO(content)) as file:
            cells = [*_cells(path, file, len(content))]
    found: Layers = {}
    for n, (name, directions) in enumerate(cells):
        said = configs.get(name) if configs is not None else []
        if said is None:
            raise ConveyorError(f"[import] {path}: {name}: config.json tells of no LSTM, GRU or SimpleRNN of that name")
        found[distinct(name, n, found)] = _layer(f"{path}: {name}", directions, said)
    places = {name: n for n, name in enumerate(configs or {})}  # HDF5 has them by their names, config.json as the model
    return {name: found[name] for name in sorted(found, key=lambda name: places.get(name, len(places)))}


def _check_heaps(path: Path, content: bytes) -> None:
    """HDF5 2.0 goes on for ever at an entry of no size in a heap of texts."""
    start = -1
    while (start := content.find(b"GCOL\1\0\0\0", start + 1)) >= 0:
        place, end = start + 16, min(start + int.from_bytes(content[start + 8 : start + 16], "little"), len(content))
        while place + 16 <= end:
            number, size = struct.unpack_from("<H6xQ", content, place)
            if number == size == 0:
                raise ConveyorError(
                    f"[import] {path}: expected a file of Keras 3, but its names are broken; copy it again"
                )
            place += 16 + -(-size // 8) * 8 if number else size


def _configs(value: Any) -> dict[str, list[Config]]:
    """What a description says of its recurrent layers, by their names, which models within models may share."""
    found: dict[str, list[Config]] = {}
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            own, known = one.get("config"), one.get("class_name") in (*CLASSES, "Bidirectional")
            if known and isinstance(own, dict) and isinstance(own.get("name"), str):
                found.setdefault(own["name"], []).append(own)
            one = [] if one.get("class_name") == "Bidirectional" else [*one.values()]
        waiting += reversed(one) if isinstance(one, list) else []
    return found


def _cells(path: Path, file: h5py.File, size: int) -> Iterator[tuple[str, list[Arrays]]]:
    """The name of each layer, and the arrays of its directions."""
    places: list[str] = []
    file.visit(lambda name: places.append(name) if name.endswith("cell/vars") and "0" in file[name] else None)
    for cell in sorted(places, key=natural):
        place = cell.removesuffix("/cell/vars")
        if place.endswith("backward_layer"):
            continue
        both = place.endswith("forward_layer")
        owner = place.rpartition("/")[0] if both else place
        name = str(file[owner]["vars"].attrs.get("name", owner)) if "vars" in file[owner] else owner
        sides = [cell, f"{owner}/backward_layer/cell/vars"] if both else [cell]
        yield name, [_arrays(f"{path}: {name}", file[one], size) for one in sides]


def _arrays(where: str, group: h5py.Group, size: int) -> Arrays:
    """Kernel, recurrent kernel and bias, if they are as large as the group says."""
    if len(group) not in (2, 3):
        raise ConveyorError(f"[import] {where}: expected two kernels and a bias or none, got {len(group)} arrays")
    found = [group[str(n)] for n in range(len(group))]
    for one in found:
        if not isinstance(one, h5py.Dataset) or one.dtype.kind != "f":
            raise ConveyorError(f"[import] {where}: expected arrays of floating numbers, got {one}")
        if one.nbytes > min(size, one.id.get_storage_size()):
            raise ConveyorError(
                f"[import] {where}: expected arrays as Keras writes them, not compressed and whole, got "
                f"{[*one.shape]} in {one.id.get_storage_size():,} bytes"
            )
    with np.errstate(over="ignore"):
        return [np.asarray(one, np.float32) for one in found]


def _layer(where: str, directions: list[Arrays], configs: list[Config]) -> Layer:
    kind = _kind(where, directions)
    said = [_activations(where, kind, one) for config in configs for one in _sides(where, config, directions)]
    gate, candidate = said[0] if said else ("sigmoid", "tanh")
    if any(one != (gate, candidate) for one in said):
        raise ConveyorError(
            f"[import] {where}: expected the same activations in all layers of that name and directions"
        )
    arrays = [_placed(kind, one) for one in directions]
    if kind == "LSTM":
        return layer(kind, arrays, variant=activated(gate, candidate, candidate))
    if (kind == "GRU" and (gate, candidate) != ("sigmoid", "tanh")) or candidate not in ("tanh", "relu"):
        raise ConveyorError(
            f"[import] {where}: {kind}: expected activations that torch's has too, got {candidate}, {gate}"
        )
    return layer(kind, arrays, nonlinearity=str(candidate))


def _kind(where: str, directions: list[Arrays]) -> str:
    """By the number of gates; ConveyorError for shapes that do not fit one another."""
    shapes, *others = ([array.shape for array in one] for one in directions)
    kernel, recurrent, *bias = shapes
    fit = len(kernel) == len(recurrent) == 2 and kernel[1] == recurrent[1] and 0 not in kernel + recurrent
    gates = recurrent[1] / recurrent[0] if fit else 0
    if gates not in KINDS:
        raise ConveyorError(
            f"[import] {where}: expected kernels [I, G H] and [H, G H], got {[*kernel]} and {[*recurrent]}"
        )
    wanted = (2, kernel[1]) if gates == 3 else (kernel[1],)
    if bias and bias != [wanted]:
        more = ", the GRU of torch and cuDNN (reset_after=True)" if gates == 3 else ""
        raise ConveyorError(f"[import] {where}: bias: expected {[*wanted]}{more}, got {[*bias[0]]}")
    if others and others != [shapes]:
        raise ConveyorError(f"[import] {where}: backward_layer: expected shapes as forward, {shapes}, got {others[0]}")
    return KINDS[int(gates)]


def _sides(where: str, config: Config, directions: list[Arrays]) -> list[Config]:
    """What is said of each direction."""
    if len(directions) == 1 and "layer" not in config:
        return [config]
    if config.get("merge_mode") != "concat":
        raise ConveyorError(f"[import] {where}: expected merge_mode concat, got {config.get('merge_mode')!r:.40}")
    match [config.get("layer"), config.get("backward_layer", config.get("layer"))]:
        case [{"config": dict() as forward}, {"config": dict() as backward}] if len(directions) == 2:
            return [forward, backward | {"go_backwards": False}]
    raise ConveyorError(f"[import] {where}: expected a layer of two directions in config.json and weights alike")


def _activations(where: str, kind: str, config: Config) -> tuple[Activation, Activation]:
    """Of the gates and of the candidate; ConveyorError for what is not to be had here."""
    if config.get("go_backwards"):
        raise ConveyorError(
            f"[import] {where}: expected a layer that reads forwards, or Bidirectional, got go_backwards"
        )
    if kind == "GRU" and not config.get("reset_after", True):
        raise ConveyorError(f"[import] {where}: expected reset_after=True, the GRU of torch and cuDNN")
    given = {"recurrent_activation": config.get("recurrent_activation", "sigmoid")} if kind != "RNN" else {}
    given |= {"activation": config.get("activation", "tanh")}
    for name, value in given.items():
        if not isinstance(value, str) or value not in ACTIVATIONS:
            raise ConveyorError(
                f"[import] {where}: {name}: expected one of {', '.join(ACTIVATIONS)}, got {value!r:.60}"
            )
    return ACTIVATIONS[given.get("recurrent_activation", "sigmoid")], ACTIVATIONS[given["activation"]]


def _placed(kind: str, arrays: Arrays) -> dict[str, np.ndarray]:
    """By torch's names and in its order."""
    kernel, recurrent, *bias = arrays
    order = ORDER[kind]
    found = {"weight_ih": reordered(kernel.T, order), "weight_hh": reordered(recurrent.T, order)}
    if bias:
        both = bias[0] if bias[0].ndim == 2 else np.stack([bias[0], np.zeros_like(bias[0])])
        found |= {"bias_ih": reordered(both[0], order), "bias_hh": reordered(both[1], order)}
    return found


def to_bytes(layers: Layers) -> bytes:
    """A `.weights.h5` of a Sequential model of these layers, as `load_weights` reads it; stacked ones one by one."""
    content, counts = io.BytesIO(), dict[str, int]()
    with h5py.File(content, "w") as file:
        file.create_group("vars")
        for name, one in layers.items():
            if modules.cell(one) == "rnn_relu":
                raise ConveyorError(f"[import] {name}: expected tanh, got relu: a .weights.h5 says no activations")
            if one.proj_size or modules.cell(one) not in ("lstm", "gru", "rnn_tanh"):
                raise ConveyorError(
                    f"[import] {name}: expected a plain LSTM: Keras has neither projections nor variants, and a "
                    ".weights.h5 says no activations"
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
