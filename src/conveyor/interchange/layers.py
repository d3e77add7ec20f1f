"""Recurrent layers out of files of other libraries, and into them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from conveyor.errors import ConveyorError
from conveyor.nn import GRU, LSTM, RNN
from conveyor.variant import Activation, Variant

Layer: TypeAlias = LSTM | GRU | RNN
Layers: TypeAlias = dict[str, Layer]
"""By the names they have in the file."""
KINDS = {4: "LSTM", 3: "GRU", 1: "RNN"}
"""By gates."""


def read(path: Path) -> Layers:
    """The recurrent layers of a file: ONNX (.onnx), Keras 3 (.keras, .weights.h5), or a state dict of torch
    (.safetensors). ConveyorError for a file that is none of them, has none, or has one that is not to be had here."""
    try:
        found = _read(path)
    except ConveyorError as error:  # may cite a name out of the file, of any characters
        raise ConveyorError("".join(one if one.isprintable() else " " for one in str(error))) from None
    for name, one in found.items():
        if not name.isprintable():
            raise ConveyorError(f"[import] {path}: {name!r}: expected a name that can be printed; rename the layer")
        wrong = [weight for weight, values in one.state_dict().items() if not values.isfinite().all()]
        if wrong:
            raise ConveyorError(f"[import] {path}: {name}: {wrong[0]}: expected numbers, got NaN or infinity")
    if not found:
        raise ConveyorError(f"[import] {path}: expected an LSTM, a GRU or an RNN among its layers, got none")
    return found


def _read(path: Path) -> Layers:
    if not path.is_file():
        got = "a folder; name a file in it" if path.is_dir() else "nothing of that name; check the path"
        raise ConveyorError(f"[import] {path}: expected a file, got {got}")
    name = path.name.lower()
    if name.endswith(".onnx"):
        from conveyor.interchange import onnx_layers

        return onnx_layers.read(path)
    if name.endswith((".keras", ".h5")):
        from conveyor.interchange import keras

        return keras.read(path)
    if name.endswith(".safetensors"):
        from conveyor.interchange import torch_state

        return torch_state.read(path)
    if name.endswith((".pt", ".pth", ".bin", ".ckpt")):
        raise ConveyorError(
            f"[import] {path}: a file of torch.save is a program, which is not run here; write its state dict by "
            "safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"
        )
    raise ConveyorError(f"[import] {path}: expected .onnx, .keras, .weights.h5 or .safetensors")


@contextmanager
def reading(where: object, what: str) -> Iterator[None]:
    """Around another's parser, which may raise anything: the first line of what it says, as a ConveyorError."""
    try:
        yield
    except ConveyorError:
        raise
    except Exception as error:
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ConveyorError(f"[import] {where}: expected {what}, but {said}; export or copy it again") from None


def distinct(name: str, n: int, found: Layers) -> str:
    """The name, with the number n behind it where another layer has it."""
    while name in found:
        name = f"{name}_{n}"
    return name


def to_bytes(layers: Layers, kind: Literal["torch", "keras"]) -> bytes:
    """The layers as a state dict of torch, in safetensors, or as weights of Keras 3, a `.weights.h5`."""
    if kind == "torch":
        from conveyor.interchange import torch_state

        return torch_state.to_bytes(layers)
    from conveyor.interchange import keras

    return keras.to_bytes(layers)


def layer(
    kind: str,
    directions: Sequence[dict[str, np.ndarray]],
    *,
    nonlinearity: str = "tanh",
    variant: Variant | None = None,
) -> Layer:
    """A layer with the arrays of each direction, by their names in torch without the layer's: weight_ih [G H, I],
    weight_hh [G H, P], bias_ih, bias_hh, weight_hr, weight_ch of peepholes; all in the order of torch's gates."""
    first = directions[0]
    gates = len(variant.gates) if variant else next(count for count, name in KINDS.items() if name == kind)
    H, I = len(first["weight_ih"]) // gates, first["weight_ih"].shape[1]
    options: dict[str, Any] = {"bias": "bias_ih" in first, "bidirectional": len(directions) == 2}
    found: Layer
    if kind == "LSTM":
        size = len(first["weight_hr"]) if "weight_hr" in first else 0
        found = LSTM(I, H, proj_size=size, variant=variant or "lstm", **options)
    elif kind == "GRU":
        found = GRU(I, H, **options)
    else:
        found = RNN(I, H, nonlinearity=nonlinearity, **options)
    state = {
        f"{name}_l0{'_reverse' if d else ''}": torch.from_numpy(np.array(array, np.float32))
        for d, own in enumerate(directions)
        for name, array in own.items()
    }
    found.load_state_dict(state)
    return found.eval()


def natural(name: str) -> str:
    """By which 2 comes before 10, where a file has its names in no order."""
    return re.sub("[0-9]+", lambda number: number[0].zfill(9), name)


def ordered(path: Path, layers: Layers) -> Layers:
    """The layers, if the file says in which order they are: `.weights.h5` counts those of each kind alone."""
    kinds = {"Bidirectional" if one.bidirectional else type(one).__name__ for one in layers.values()}
    if path.name.lower().endswith(".h5") and len(kinds) > 1:
        raise ConveyorError(
            f"[import] {path}: expected layers of one kind, since .weights.h5 says no order between "
            f"{' and '.join(sorted(kinds))}; give the .keras file"
        )
    return layers


def chained(layers: Layers) -> list[Layer]:
    """The layers as one network, each over the outputs of the one before; ConveyorError where they do not fit."""
    found = [*layers.values()]
    for (name, below), (other, above) in zip(layers.items(), [*layers.items()][1:], strict=False):
        width = (getattr(below, "proj_size", 0) or below.hidden_size) * (1 + below.bidirectional)
        if above.input_size != width:
            raise ConveyorError(
                f"[import] {other} reads {above.input_size} features, {name} before it gives {width}: they are no "
                "chain; write them as .safetensors, each by its name"
            )
    return found


def described(name: str, one: Layer) -> str:
    """A line for people."""
    variant = getattr(one, "variant", "lstm")
    sizes = f"{one.input_size} → {one.hidden_size}" + (f" → {one.proj_size}" if getattr(one, "proj_size", 0) else "")
    more = [f"{one.num_layers} layers"] * (one.num_layers > 1) + ["both directions"] * one.bidirectional
    more += ["without biases"] * (not one.bias) + ([_changes(variant)] if variant != "lstm" else [])
    more += ["relu"] * (getattr(one, "nonlinearity", "tanh") == "relu")
    return f"{name}: {type(one).__name__} {', '.join([sizes, *more])}"


def _changes(variant: str | Variant) -> str:
    if isinstance(variant, str):
        return variant
    plain = Variant()
    return ", ".join(f"{name}={value}" for name, value in vars(variant).items() if value != getattr(plain, name))


def reordered(array: np.ndarray, order: Sequence[int], axis: int = 0) -> np.ndarray:
    """The parts of an axis, of which part n comes from place order[n]."""
    parts = np.split(array, len(order), axis)
    return np.concatenate([parts[place] for place in order], axis)


def activated(gate: Activation, candidate: Activation, belt: Activation, **more: Any) -> Variant | None:
    """The variant of these activations; None if it is the LSTM itself."""
    found = Variant(gate_activation=gate, input_activation=candidate, output_activation=belt, **more)
    return None if found == Variant() else found


def as_array(tensor: Tensor) -> np.ndarray:
    """Its values."""
    values: np.ndarray = tensor.detach().float().cpu().numpy()
    return values
