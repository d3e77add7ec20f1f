"""The LSTM, GRU and RNN nodes of ONNX files as layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from conveyor.errors import ConveyorError
from conveyor.interchange.layers import Layer, Layers, activated, layer
from conveyor.variant import ACTIVATIONS, Activation, Variant

GATES = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
"""Where torch's gates stand among ONNX's: i f g o among i o f c, r z n among z r h."""
NAMES = {
    "Sigmoid": "sigmoid", "Tanh": "tanh", "Relu": "relu", "Softsign": "softsign", "Softplus": "softplus",
    "LeakyRelu": "leaky-relu", "ThresholdedRelu": "thresholded-relu", "Elu": "elu", "Affine": "affine",
    "ScaledTanh": "scaled-tanh", "HardSigmoid": "hard-sigmoid",
}  # fmt: skip


def read(path: Path) -> Layers:
    """Its recurrent nodes, by their names; weights must stand in the file."""
    try:
        model = onnx.load(str(path))
    except (DecodeError, OSError, ValueError) as error:
        raise ConveyorError(f"[import] {path}: expected an ONNX file, but {error}") from None
    constants = {one.name: one for one in model.graph.initializer}
    for node in model.graph.node:
        for one in node.attribute:
            if node.op_type == "Constant" and one.name == "value":
                constants[node.output[0]] = one.t
    found: Layers = {}
    for n, node in enumerate(model.graph.node):
        if node.op_type in GATES:
            name = (node.name or f"{node.op_type.lower()}_{n}").strip("/").replace("/", ".")
            found[name] = _layer(f"{path}: {name}", node, constants)
    return found


def _layer(where: str, node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> Layer:
    kind, given = node.op_type, [*node.input, *[""] * 8]
    attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
    arrays = {
        name: _array(where, constants, given[place])
        for name, place in (("W", 1), ("R", 2), ("B", 3), ("P", 7))
        if given[place]
    }
    if "W" not in arrays or "R" not in arrays or arrays["W"].ndim != 3 or arrays["R"].ndim != 3:
        raise ConveyorError(f"[import] {where}: expected weights W and R of three dimensions")
    direction, D = attributes.get("direction", b"forward").decode(), len(arrays["W"])
    if direction == "reverse":
        raise ConveyorError(f"[import] {where}: expected forward or bidirectional, got reverse; turn its input round")
    if kind == "GRU" and not attributes.get("linear_before_reset"):
        raise ConveyorError(f"[import] {where}: expected linear_before_reset=1, the GRU of torch and cuDNN")
    if kind != "LSTM" and attributes.get("clip"):
        raise ConveyorError(f"[import] {where}: clip: of a {kind} there is none here")
    variant, nonlinearity = _variant(where, kind, D, attributes, arrays)
    try:
        directions = [_direction(kind, d, arrays, variant) for d in range(D)]
        return layer(kind, directions, variant=variant, nonlinearity=nonlinearity)
    except (ValueError, RuntimeError, IndexError) as error:
        raise ConveyorError(f"[import] {where}: its weights do not fit together: {error}") from None


def _array(where: str, constants: dict[str, onnx.TensorProto], name: str) -> np.ndarray:
    if name not in constants:
        raise ConveyorError(f"[import] {where}: expected {name} among the constants of the file, got none")
    values: np.ndarray = numpy_helper.to_array(constants[name]).astype(np.float32)
    return values


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


def _variant(
    where: str, kind: str, D: int, attributes: dict[str, Any], arrays: dict[str, np.ndarray]
) -> tuple[Variant | None, str]:
    """What differs from the LSTM; and of an RNN its activation."""
    usual = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}[kind]
    names = [one.decode() for one in attributes.get("activations", [])] or usual * D
    alphas, betas = ([*attributes.get(f"activation_{name}", [])] for name in ("alpha", "beta"))
    found = [_activation(where, name, alphas, betas) for name in names]
    own = len(usual)
    if any(found[:own] != found[n : n + own] for n in range(0, len(found), own)):
        raise ConveyorError(f"[import] {where}: expected the same activations in both directions")
    if kind == "LSTM":
        more = {"clip": float(attributes["clip"])} if attributes.get("clip") else {}
        gate, candidate, belt = found[:3]
        return activated(
            gate, candidate, belt, peepholes="P" in arrays, coupled=bool(attributes.get("input_forget")), **more
        ), "tanh"
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
