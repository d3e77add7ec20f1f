"""ONNX files of graphs, in standard operators alone.

Inputs: `features` [T, B, I] or `tokens` [T, B] of int64, `lengths` [B] of int32, and the states each recurrent layer k
begins in, `h0_k` [D, B, R] and `c0_k` [D, B, H]; outputs: `y` [T, B, O], zero past a row's end, and the states `h_k`
and `c_k` behind the last step. T and B may be anything.

A recurrent layer is the operator LSTM, GRU or RNN where that can say it; else a Scan over the steps, of the equations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from conveyor.interchange.graph import Graph, Node
from conveyor.variant import GATES, Squash, Variant

OPSET, IR = 17, 9
ORDER = {"lstm": (0, 3, 1, 2), "lstm variant": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn_tanh": (0,), "rnn_relu": (0,)}
"""ONNX's order of gates, i o f c and z r h, by the places they have in torch's."""
OPERATORS = {"lstm": "LSTM", "lstm variant": "LSTM", "gru": "GRU", "rnn_tanh": "RNN", "rnn_relu": "RNN"}
ACTIVATIONS = {
    "sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "Relu", "softsign": "Softsign", "softplus": "Softplus",
    "leaky-relu": "LeakyRelu", "thresholded-relu": "ThresholdedRelu", "elu": "Elu", "affine": "Affine",
    "scaled-tanh": "ScaledTanh", "hard-sigmoid": "HardSigmoid", "identity": "Affine",
}  # fmt: skip
NUMBERS = {"LeakyRelu": 1, "ThresholdedRelu": 1, "Elu": 1, "Affine": 2, "ScaledTanh": 2, "HardSigmoid": 2}
OPEN = 100.0
"""Of a gate that is not there: its sigmoid is 1."""


class Writer:
    """Nodes and constants of an ONNX graph, as they are written down."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def __call__(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """A node of one output; its name."""
        return self.several(kind, *inputs, outputs=1, **attributes)[0]

    def several(self, kind: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """A node of several outputs; their names."""
        names = [f"{self.prefix}{kind.lower()}_{len(self.nodes)}" + (f"_{n}" if n else "") for n in range(outputs)]
        self.nodes.append(helper.make_node(kind, [*inputs], names, **attributes))
        return names

    def constant(self, array: np.ndarray | Sequence[int] | int, dtype: Any = None) -> str:
        """An array; whole numbers are int64."""
        values = np.asarray(
            array, dtype or (np.float32 if isinstance(array, np.ndarray) and array.dtype.kind == "f" else np.int64)
        )
        self.constants.append(
            numpy_helper.from_array(np.ascontiguousarray(values), f"{self.prefix}constant_{len(self.constants)}")
        )
        return str(self.constants[-1].name)

    def named(self, source: str, name: str) -> None:
        """The same by another name."""
        self.nodes.append(helper.make_node("Identity", [source], [name]))


def to_bytes(graph: Graph) -> bytes:
    """The file, checked by onnx."""
    write, count = Writer(), 0
    given = "tokens" if graph.tokens else "features"
    kind = TensorProto.INT64 if graph.tokens else TensorProto.FLOAT
    shape: list[str | int] = ["T", "B"] if graph.tokens else ["T", "B", graph.features]
    inputs = [
        helper.make_tensor_value_info(given, kind, shape),
        helper.make_tensor_value_info("lengths", TensorProto.INT32, ["B"]),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["T", "B", graph.nodes[-1].width])]
    names = [given]
    for node in graph.nodes[1:]:
        of = [names[n] for n in node.of]
        if node.op == "recurrent":
            states = _states(node, count)
            names.append(_recurrent(write, of[0], node, states))
            for before, after, size in states:
                sizes: list[str | int] = [len(node.arrays), "B", size]
                inputs.append(helper.make_tensor_value_info(before, TensorProto.FLOAT, sizes))
                outputs.append(helper.make_tensor_value_info(after, TensorProto.FLOAT, sizes))
            count += 1
        else:
            names.append(_plain(write, of, node))
    write.named(_ended(write, names[-1]), "y")
    body = helper.make_graph(write.nodes, "conveyor", inputs, outputs, write.constants)
    model = helper.make_model(
        body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR, producer_name="conveyor"
    )
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content


def _states(node: Node, k: int) -> list[tuple[str, str, int]]:
    """Names of a layer's states before and behind, and their sizes."""
    fed = node.arrays[0]["w_hh"].shape[1]
    belt = [(f"c0_{k}", f"c_{k}", node.fields["hidden_size"])] if node.fields["cell"].startswith("lstm") else []
    return [(f"h0_{k}", f"h_{k}", fed), *belt]


def _plain(write: Writer, of: list[str], node: Node) -> str:
    """All but the recurrent ones."""
    own = node.arrays[0] if node.arrays else {}
    constant = {
        name: write.constant(array.T if node.op == "linear" and array.ndim == 2 else array)
        for name, array in own.items()
    }
    if node.op == "embedding":
        return write("Gather", constant["weight"], of[0])
    if node.op == "linear":
        y = write("MatMul", of[0], constant["weight"])
        return write("Add", y, constant["bias"]) if "bias" in constant else y
    if node.op == "norm":
        return write("LayerNormalization", of[0], constant["weight"], constant["bias"], axis=-1, epsilon=1e-5)
    if node.op == "scale":
        return write("Add", write("Mul", of[0], constant["weight"]), constant["bias"])
    if node.op == "activation":
        kinds = {
            "relu": "Relu",
            "tanh": "Tanh",
            "sigmoid": "Sigmoid",
            "softmax": "Softmax",
            "log_softmax": "LogSoftmax",
        }
        kind = node.fields["kind"]
        return write(kinds[kind], of[0], **({"axis": -1} if "softmax" in kind else {}))
    if node.op == "add":
        return write("Sum", *of)
    if node.op == "concat":
        return write("Concat", *of, axis=-1)
    return _pool(write, of[0], node.fields["kind"], node.width)


def _pool(write: Writer, x: str, kind: str, width: int) -> str:
    """Of all steps so far; past a row's end it goes on, and is cut off at the end of the graph."""
    if kind == "ends":
        first = write("Slice", x, write.constant([0]), write.constant([1]), write.constant([0]))
        ahead, behind = (
            write("Slice", part, write.constant([a]), write.constant([b]), write.constant([2]))
            for part, a, b in ((x, 0, width // 2), (first, width // 2, width))
        )
        return write("Concat", ahead, write("Expand", behind, write("Shape", ahead)), axis=-1)
    if kind == "mean":
        steps = write(
            "CumSum", write("ConstantOfShape", write("Shape", x), value=_one(1.0)), write.constant(np.array(0))
        )
        return write("Div", write("CumSum", x, write.constant(np.array(0))), steps)
    inner = Writer(f"{x}_")
    inner.named(inner("Max", "most", "now"), "next")
    inner.named("next", "shown")
    body = helper.make_graph(
        inner.nodes, "largest",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", width]) for name in ("most", "now")],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", width]) for name in ("next", "shown")],
    )  # fmt: skip
    sizes = write("Shape", x, start=1)
    least = write("ConstantOfShape", sizes, value=_one(-3.4e38))
    return write.several("Scan", least, x, outputs=2, body=body, num_scan_inputs=1)[1]


def _one(value: float) -> onnx.TensorProto:
    return helper.make_tensor("value", TensorProto.FLOAT, [1], [value])


def _ended(write: Writer, y: str) -> str:
    """Zero past the end of each row."""
    return write("Mul", y, write("Unsqueeze", _there(write, y), write.constant([2])))


def _there(write: Writer, x: str) -> str:
    """[T, B] of 1 where a row has a step, else 0."""
    T = write("Squeeze", write("Shape", x, start=0, end=1), write.constant([0]))
    steps = write("Range", write.constant(np.array(0, np.int64)), T, write.constant(np.array(1, np.int64)))
    ends = write("Cast", "lengths", to=TensorProto.INT64)
    there = write("Less", write("Unsqueeze", steps, write.constant([1])), write("Unsqueeze", ends, write.constant([0])))
    return write("Cast", there, to=TensorProto.FLOAT)


def _recurrent(write: Writer, x: str, node: Node, states: list[tuple[str, str, int]]) -> str:
    variant: Variant | None = node.fields["variant"]
    projected = "w_hr" in node.arrays[0]
    if projected or (variant is not None and not _operator_says(variant)):
        return _scanned(write, x, node, variant or Variant(), states)
    return _operator(write, x, node, variant, states)


def _operator_says(variant: Variant) -> bool:
    """Whether the LSTM operator has all of it."""
    beyond = variant.gate_recurrence or variant.layer_norm or variant.cell_clip or variant.proj_clip or variant.noise
    missing = {"i", "f", "o"} - {*variant.doors} - ({"f"} if variant.coupled else set())
    return not beyond and not (missing and (variant.gate_activation != "sigmoid" or variant.clip))


def _operator(write: Writer, x: str, node: Node, variant: Variant | None, states: list[tuple[str, str, int]]) -> str:
    cell, H, D = node.fields["cell"], node.fields["hidden_size"], len(node.arrays)
    order = ORDER[cell]
    there = [GATES.index(gate) for gate in variant.gates] if variant else [*range(len(order))]

    def placed(array: np.ndarray, missing: float = 0.0) -> np.ndarray:
        """Its gates in ONNX's order, those that are not there among them."""
        parts = dict(zip(there, np.split(array, len(there)), strict=True))
        return np.concatenate([parts.get(place, np.full_like(parts[there[0]], missing)) for place in order])

    def bias(own: dict[str, np.ndarray]) -> np.ndarray:
        nothing = np.zeros(len(own["w_ih"]), np.float32)
        return np.concatenate([placed(own.get("b_ih", nothing), OPEN), placed(own.get("b_hh", nothing))])

    attributes: dict[str, Any] = {"hidden_size": H, "direction": "bidirectional" if D == 2 else "forward"}
    if cell == "gru":
        attributes["linear_before_reset"] = 1
    if cell.startswith("rnn"):
        attributes["activations"] = ["Relu" if cell == "rnn_relu" else "Tanh"] * D
    weights = [write.constant(np.stack([placed(own[name]) for own in node.arrays])) for name in ("w_ih", "w_hh")]
    inputs = [
        x,
        *weights,
        write.constant(np.stack([bias(own) for own in node.arrays])),
        "lengths",
        *(before for before, *_ in states),
    ]
    if variant:
        attributes |= _activations(variant, D) | ({"clip": variant.clip} if variant.clip else {})
        attributes["input_forget"] = int(variant.coupled)
    if variant and variant.peepholes:
        inputs.append(write.constant(np.stack([_peepholes(variant, own["vectors"], H) for own in node.arrays])))
    y, *last = write.several(OPERATORS[cell], *inputs, outputs=1 + len(states), **attributes)
    for name, (_, after, _) in zip(last, states, strict=True):
        write.named(name, after)
    return write("Reshape", write("Transpose", y, perm=[0, 2, 1, 3]), write.constant([0, 0, D * H]))


def _peepholes(variant: Variant, vectors: np.ndarray, H: int) -> np.ndarray:
    """In the order i o f."""
    parts = dict(zip(variant.doors, np.split(vectors[: len(variant.doors) * H], len(variant.doors)), strict=True))
    return np.concatenate([parts.get(gate, np.zeros(H, np.float32)) for gate in "iof"])


def _activations(variant: Variant, D: int) -> dict[str, Any]:
    names = [ACTIVATIONS[one.name] for one in variant.squashes] * D
    numbers = [(1.0, 0.0) if one.name == "identity" else (one.alpha, one.beta) for one in variant.squashes] * D
    found: dict[str, Any] = {"activations": names}
    alphas = [alpha for name, (alpha, _) in zip(names, numbers, strict=True) if NUMBERS.get(name, 0) > 0]
    betas = [beta for name, (_, beta) in zip(names, numbers, strict=True) if NUMBERS.get(name, 0) > 1]
    return found | ({"activation_alpha": alphas} if alphas else {}) | ({"activation_beta": betas} if betas else {})


def _scanned(write: Writer, x: str, node: Node, variant: Variant, states: list[tuple[str, str, int]]) -> str:
    """Each direction by a Scan; the reverse one over rows turned round at their own ends."""
    there, sides, lasts = write("Unsqueeze", _there(write, x), write.constant([2])), [], []
    for d, own in enumerate(node.arrays):
        turned = (
            (
                lambda y: write(
                    "ReverseSequence", y, write("Cast", "lengths", to=TensorProto.INT64), batch_axis=1, time_axis=0
                )
            )
            if d
            else (lambda y: y)
        )
        first = [
            write("Squeeze", write("Slice", before, *(write.constant([n]) for n in (d, d + 1, 0))), write.constant([0]))
            for before, *_ in states
        ]
        body = _step(Writer(f"{x}_{d}_"), own, variant, node.fields["hidden_size"], node.fields["rates"])
        h, c, y = write.several("Scan", *first, turned(x), there, outputs=3, body=body, num_scan_inputs=2)
        sides.append(turned(y))
        lasts.append([write("Unsqueeze", part, write.constant([0])) for part in (h, c)])
    for n, (_, after, _) in enumerate(states):
        write.named(write("Concat", *(last[n] for last in lasts), axis=0), after)
    return write("Concat", *sides, axis=-1)


def _step(
    write: Writer, own: dict[str, np.ndarray], variant: Variant, H: int, rates: Sequence[float]
) -> onnx.GraphProto:
    """h, c, x_t and whether there is a step, to h, c and the output: `conveyor.equations.variant_step`."""
    gates, doors = variant.gates, variant.doors
    R, P = own["w_hh"].shape[1], len(own["w_hr"]) if "w_hr" in own else H
    vectors = own.get("vectors", np.zeros(0, np.float32))
    peepholes = (
        dict(zip(doors, np.split(vectors[: len(doors) * H], max(1, len(doors))), strict=False))
        if variant.peepholes
        else {}
    )
    norms = (
        np.split(vectors[len(peepholes) * H :], np.cumsum([len(gates) * H, len(gates) * H, H]))
        if variant.layer_norm
        else []
    )
    rate = dict(zip(variant.noise, rates, strict=True))
    of_gate, of_candidate, of_belt = (lambda z, one=one: _squashed(write, z, one) for one in variant.squashes)

    def bounded(z: str, bound: float | None) -> str:
        return (
            write("Clip", z, write.constant(np.array(-bound, np.float32)), write.constant(np.array(bound, np.float32)))
            if bound
            else z
        )

    def normal(z: str, weight: np.ndarray, bias: np.ndarray | None = None) -> str:
        shift = np.zeros_like(weight) if bias is None else bias
        return write("LayerNormalization", z, write.constant(weight), write.constant(shift), axis=-1, epsilon=1e-5)

    def mixed(name: str, before: str, after: str) -> str:
        if name not in rate:
            return after
        stays, goes = (write.constant(np.array(share, np.float32)) for share in (rate[name], 1 - rate[name]))
        return write("Add", write("Mul", before, stays), write("Mul", after, goes))

    of_x, of_h = (write("MatMul", name, write.constant(own[w].T)) for name, w in (("x", "w_ih"), ("h", "w_hh")))
    if norms:
        of_x, of_h = normal(of_x, norms[0]), normal(of_h, norms[1])
    nothing = np.zeros(len(own["w_ih"]), np.float32)
    sums = write("Add", write("Add", of_x, of_h), write.constant(own.get("b_ih", nothing) + own.get("b_hh", nothing)))
    parts = (
        [sums]
        if len(gates) == 1
        else write.several("Split", sums, write.constant([H] * len(gates)), outputs=len(gates), axis=-1)
    )
    z = dict(zip(gates, parts, strict=True))
    one = write.constant(np.ones(H, np.float32)) if {"i", "f", "o"} - {*gates} else ""

    def door(gate: str, belt: str) -> str:
        if gate not in z:
            return one
        seen = (
            write("Add", z[gate], write("Mul", belt, write.constant(peepholes[gate]))) if gate in peepholes else z[gate]
        )
        return of_gate(bounded(seen, variant.clip))

    i = door("i", "c")
    f = write("Sub", one, i) if variant.coupled else door("f", "c")
    g = of_candidate(bounded(z["g"], variant.clip))
    belt = bounded(write("Add", write("Mul", f, "c"), write("Mul", i, g)), variant.cell_clip)
    o = door("o", belt)
    shown = normal(belt, norms[2], norms[3]) if norms else belt
    before = write("Slice", "h", *(write.constant([n]) for n in (0, P, 1))) if R > P else "h"
    h = write("Mul", o, of_belt(shown))
    h = mixed("zoneout_hidden", before, h)
    if "w_hr" in own:
        h = bounded(write("MatMul", h, write.constant(own["w_hr"].T)), variant.proj_clip)
    values = {"i": i, "f": f, "o": o}
    whole = write("Concat", h, *(values[name] for name in doors), axis=-1) if variant.gate_recurrence else h
    after = {"h": whole, "c": mixed("zoneout_cell", "c", belt)}
    here = write("Cast", "there", to=TensorProto.BOOL)
    for name, value in after.items():
        write.named(write("Where", here, value, name), f"{name}_next")
    write.named(write("Mul", h, "there"), "y")
    sizes = {"h": R, "c": H, "x": own["w_ih"].shape[1], "there": 1, "h_next": R, "c_next": H, "y": P}
    info = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", size]) for name, size in sizes.items()}
    return helper.make_graph(
        write.nodes, "step", [info[name] for name in ("h", "c", "x", "there")],
        [info[name] for name in ("h_next", "c_next", "y")], write.constants,
    )  # fmt: skip


def _squashed(write: Writer, z: str, one: Squash) -> str:
    a, b = one.alpha, one.beta

    def number(value: float) -> str:
        return write.constant(np.array(value, np.float32))

    if one.name == "identity":
        return z
    if one.name == "affine":
        return write("Add", write("Mul", z, number(a)), number(b))
    if one.name == "scaled-tanh":
        return write("Mul", write("Tanh", write("Mul", z, number(b))), number(a))
    attributes = {
        "leaky-relu": {"alpha": a},
        "thresholded-relu": {"alpha": a},
        "elu": {"alpha": a},
        "hard-sigmoid": {"alpha": a, "beta": b},
    }
    return write(ACTIVATIONS[one.name], z, **attributes.get(one.name, {}))


def difference(graph: Graph, content: bytes, x: np.ndarray, lengths: np.ndarray) -> float:
    """The largest difference, relative to the largest output, between onnxruntime and our runtime on an input [T, B, …]
    that is read in two halves, from state to state."""
    import onnxruntime

    from conveyor.interchange import bundle
    from conveyor.runtime import Model

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    model, B = Model.of_bytes(bundle.to_bytes(graph)), x.shape[1]
    given = "tokens" if graph.tokens else "features"
    states = {one.name: np.zeros([one.shape[0], B, one.shape[2]], np.float32) for one in session.get_inputs()[2:]}
    ours = np.zeros((B, model.state), np.float32)
    half = -(-len(x) // 2) if graph.streams else len(x)
    found = 0.0
    for first in range(0, len(x), half):
        part, ends = x[first : first + half], np.clip(lengths - first, 0, half).clip(max=len(x) - first)
        expected = model.run(part, ends, ours)
        y, *last = session.run(None, {given: part, "lengths": ends.astype(np.int32), **states})
        states = dict(zip(states, last, strict=True))
        found = max(found, float(np.abs(y - expected).max() / max(1e-6, np.abs(expected).max())))
        if any(node.op == "pool" for node in graph.nodes):
            break  # its state is not among ONNX's
    return found
