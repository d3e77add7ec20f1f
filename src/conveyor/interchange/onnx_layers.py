"""The LSTM, GRU and RNN nodes of ONNX files as layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, numpy_helper

from conveyor.errors import ConveyorError
from conveyor.interchange.layers import Layer, Layers, activated, distinct, layer, reading
from conveyor.variant import ACTIVATIONS, Activation, Variant

GATES = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
"""Where torch's gates stand among ONNX's: i f g o among i o f c, r z n among z r h."""
NAMES = {
    "Sigmoid": "sigmoid", "Tanh": "tanh", "Relu": "relu", "Softsign": "softsign", "Softplus": "softplus",
    "LeakyRelu": "leaky-relu", "ThresholdedRelu": "thresholded-relu", "Elu": "elu", "Affine": "affine",
    "ScaledTanh": "scaled-tanh", "HardSigmoid": "hard-sigmoid",
}  # fmt: skip
TYPES = {
    "direction": AttributeProto.STRING, "activations": AttributeProto.STRINGS, "clip": AttributeProto.FLOAT,
    "activation_alpha": AttributeProto.FLOATS, "activation_beta": AttributeProto.FLOATS,
    "hidden_size": AttributeProto.INT, "input_forget": AttributeProto.INT, "linear_before_reset": AttributeProto.INT,
    "layout": AttributeProto.INT, "output_sequence": AttributeProto.INT,
}  # fmt: skip
FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
Attributes = dict[str, Any]


def read(path: Path) -> Layers:
    """Its recurrent nodes, by their names; weights must stand in the file."""
    with reading(path, "an ONNX file"):
        model = onnx.load(str(path))
    constants = {one.name: one for one in model.graph.initializer}
    for node in model.graph.node:
        for one in node.attribute:
            if node.op_type == "Constant" and one.name == "value":
                constants |= dict.fromkeys(node.output, one.t)
    found: Layers = {}
    for n, node in enumerate(model.graph.node):
        if node.op_type in GATES:
            name = str(node.name).strip("/").replace("/", ".") or f"{node.op_type.lower()}_{n}"
            found[distinct(name, n, found)] = _layer(f"{path}: {name}", node, constants)
    return found


def _layer(where: str, node: onnx.NodeProto, constants: dict[str, TensorProto]) -> Layer:
    kind, given = node.op_type, [*node.input, *[""] * 8]
    attributes = _attributes(where, node)
    arrays = {
        name: _array(where, constants, given[place])
        for name, place in (("W", 1), ("R", 2), ("B", 3), ("P", 7))
        if given[place]
    }
    direction = attributes.get("direction", "forward")
    if direction not in ("forward", "bidirectional"):
        raise ConveyorError(
            f"[import] {where}: expected forward or bidirectional, got {direction:.40}; turn its input round"
        )
    D = 1 if direction == "forward" else 2
    _check_shapes(where, kind, D, attributes, arrays)
    if kind == "GRU" and not attributes.get("linear_before_reset"):
        raise ConveyorError(f"[import] {where}: expected linear_before_reset=1, the GRU of torch and cuDNN")
    if kind != "LSTM" and attributes.get("clip"):
        raise ConveyorError(f"[import] {where}: clip: of a {kind} there is none here")
    variant, nonlinearity = _variant(where, kind, D, attributes, "P" in arrays)
    directions = [_direction(kind, d, arrays, variant) for d in range(D)]
    return layer(kind, directions, variant=variant, nonlinearity=nonlinearity)


def _attributes(where: str, node: onnx.NodeProto) -> Attributes:
    """Each of its type; texts as such."""
    found: Attributes = {}
    for one in node.attribute:
        wanted = TYPES.get(one.name)
        if wanted is None:
            raise ConveyorError(f"[import] {where}: expected attributes of {', '.join(TYPES)}, got {one.name!r:.40}")
        if one.type != wanted:
            kind = AttributeProto.AttributeType.Name(wanted)
            raise ConveyorError(f"[import] {where}: {one.name}: expected {kind} (type {wanted}), got type {one.type}")
        value = onnx.helper.get_attribute_value(one)
        if wanted == AttributeProto.STRINGS:
            value = [each.decode(errors="replace") for each in value]
        found[one.name] = value.decode(errors="replace") if wanted == AttributeProto.STRING else value
    return found


def _array(where: str, constants: dict[str, TensorProto], name: str) -> np.ndarray:
    if name not in constants:
        raise ConveyorError(f"[import] {where}: expected {name} among the constants of the file, got none")
    tensor = constants[name]
    if tensor.data_type not in FLOATS:
        raise ConveyorError(f"[import] {where}: {name}: expected floating numbers, got data of type {tensor.data_type}")
    with reading(f"{where}: {name}", f"a tensor {[*tensor.dims]}"), np.errstate(over="ignore"):
        values: np.ndarray = numpy_helper.to_array(tensor).astype(np.float32)
    return values


def _check_shapes(where: str, kind: str, D: int, attributes: Attributes, arrays: dict[str, np.ndarray]) -> None:
    if "W" not in arrays or "R" not in arrays or arrays["W"].ndim != 3 or arrays["R"].ndim != 3:
        raise ConveyorError(f"[import] {where}: expected weights W and R of three dimensions")
    G, I, H = len(GATES[kind]), arrays["W"].shape[2], attributes.get("hidden_size") or arrays["R"].shape[2]
    shapes = {"W": (D, G * H, I), "R": (D, G * H, H), "B": (D, 2 * G * H), "P": (D, 3 * H)}
    for name, array in arrays.items():
        if array.shape != shapes[name] or not array.size:
            wanted = {"W": f"{G} H, I", "R": f"{G} H, H", "B": f"{2 * G} H", "P": "3 H"}[name]
            raise ConveyorError(
                f"[import] {where}: {name}: expected [D, {wanted}] = {[*shapes[name]]}, none of them 0, "
                f"got {[*array.shape]}"
            )


def _direction(kind: str, d: int, arrays: dict[str, np.ndarray], variant: Variant | None) -> dict[str, np.ndarray]:
    """By torch's names; a coupled forget gate has no weights of its own."""
    order = [
        place
        for gate, place in zip("ifgo", GATES[kind], strict=False)
        if not (variant and variant.coupled and gate == "f")
    ]
    count = len(GATES[kind])

    def placed(array: np.ndarray) -> np.ndarray:
        parts = np.split(array, count)
        return np.concatenate([parts[place] for place in order])

    found = {"weight_ih": placed(arrays["W"][d]), "weight_hh": placed(arrays["R"][d])}
    if "B" in arrays:
        found |= {
            name: placed(half) for name, half in zip(("bias_ih", "bias_hh"), np.split(arrays["B"][d], 2), strict=True)
        }
    if "P" in arrays and variant:
        parts = dict(zip("iof", np.split(arrays["P"][d], 3), strict=True))
        found["weight_ch"] = np.concatenate([parts[gate] for gate in variant.doors])
    return found


def _variant(where: str, kind: str, D: int, attributes: Attributes, peepholes: bool) -> tuple[Variant | None, str]:
    """What differs from the LSTM; and of an RNN its activation."""
    usual = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}[kind]
    names, own = attributes.get("activations") or usual * D, len(usual)
    if len(names) != own * D:
        raise ConveyorError(f"[import] {where}: activations: expected {own * D}, got {len(names)}")
    alphas, betas = ([*attributes.get(f"activation_{name}", [])] for name in ("alpha", "beta"))
    found = [_activation(where, name, alphas, betas) for name in names]
    if found[:own] != found[-own:]:
        raise ConveyorError(f"[import] {where}: expected the same activations in both directions")
    if kind == "LSTM":
        gate, candidate, belt = found[:own]
        more: dict[str, Any] = {"clip": float(attributes["clip"])} if attributes.get("clip") else {}
        more |= {"peepholes": peepholes, "coupled": bool(attributes.get("input_forget"))}
        try:
            return activated(gate, candidate, belt, **more), "tanh"
        except ValueError as error:
            raise ConveyorError(f"[import] {where}: {error}") from None
    if (kind == "GRU" and names != usual * D) or (kind == "RNN" and found[0] not in ("tanh", "relu")):
        raise ConveyorError(
            f"[import] {where}: expected activations that torch's {kind} has too, got {', '.join(names)}"
        )
    return None, str(found[0])


def _activation(where: str, name: str, alphas: list[float], betas: list[float]) -> Activation:
    if name not in NAMES:
        raise ConveyorError(f"[import] {where}: expected one of {', '.join(NAMES)}, got {name[:40]}")
    ours = NAMES[name]
    usual = {"affine": (1.0, 0.0), "leaky-relu": (0.01,)}.get(ours, ACTIVATIONS[ours])
    numbers = [float(row.pop(0) if row else default) for row, default in zip((alphas, betas), usual, strict=False)]
    if ours == "affine" and numbers == [1.0, 0.0]:
        return "identity"
    return (ours, *numbers) if numbers else ours
