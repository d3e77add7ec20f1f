"""Layers out of ONNX, Keras and torch and back, each library its own witness."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper, save
from safetensors.torch import load_file, save_file
from torch import nn

from conveyor import GRU, LSTM, RNN, Variant
from conveyor.cli import main
from conveyor.errors import ConveyorError
from conveyor.interchange import layers, modules, onnx
from conveyor.interchange.graph import Graph
from conveyor.runtime import Model

T, B, I = 9, 3, 5
pytestmark = [  # of Keras and torch among themselves
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning"),
]


@pytest.fixture
def x() -> np.ndarray:
    """[T, B, I]"""
    return np.random.default_rng(0).normal(size=(T, B, I)).astype(np.float32)


@pytest.fixture(scope="module")
def keras() -> Any:
    """Keras on torch."""
    os.environ["KERAS_BACKEND"] = "torch"
    return pytest.importorskip("keras")


def output(layer: nn.Module, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        found: np.ndarray = layer(torch.from_numpy(x))[0].numpy()
    return found


# Torch


@pytest.mark.parametrize(
    "module",
    [
        nn.LSTM(I, 4, 2, bidirectional=True),
        nn.LSTM(I, 4, proj_size=2),
        nn.LSTM(I, 4, bias=False),
        nn.GRU(I, 4, 2),
        nn.RNN(I, 4),
    ],
)
def test_torch(module: nn.Module, x: np.ndarray, tmp_path: Path) -> None:
    whole = nn.ModuleDict({"encoder": nn.ModuleDict({"rnn": module}), "output": nn.Linear(3, 2)})
    save_file(whole.state_dict(), tmp_path / "model.safetensors")
    found = layers.read(tmp_path / "model.safetensors")
    assert [*found] == ["encoder.rnn"]
    np.testing.assert_allclose(output(found["encoder.rnn"], x), output(module, x), rtol=1e-5, atol=1e-6)
    (tmp_path / "again.safetensors").write_bytes(layers.to_bytes(found, "torch"))
    other = nn.ModuleDict({"encoder": nn.ModuleDict({"rnn": module})})
    again = load_file(tmp_path / "again.safetensors")
    assert all(torch.equal(again[name], weight) for name, weight in other.state_dict().items())


def test_our_own_state_dicts_come_back(module: Any, x: np.ndarray, tmp_path: Path) -> None:
    """The metadata say what names and shapes do not."""
    names = [f"layer.{n}" for n in (2, 10, 1)]
    (tmp_path / "a.safetensors").write_bytes(layers.to_bytes(dict.fromkeys(names, module), "torch"))
    found = layers.read(tmp_path / "a.safetensors")
    assert [*found] == names
    for one in found.values():
        assert modules.cell(one) == modules.cell(module)
        np.testing.assert_array_equal(output(one, x), output(module, x))


@pytest.mark.parametrize(
    ("variant", "found"),
    [
        ("peephole", "LSTM 3 → 4, peepholes=True"),
        ("layer-norm", "LSTM 3 → 4, layer_norm=True"),
        ("full-gate-recurrence", "LSTM 3 → 4, peepholes=True, gate_recurrence=True"),
        ("lstm-1997", "GRU 3 → 4"),  # as torch's 3 H rows are
        *((name, "") for name in ("coupled", "no-input-gate", "no-forget-gate", "no-output-gate")),
    ],
)
def test_variants_by_their_tensors_alone(variant: str, found: str, tmp_path: Path) -> None:
    save_file(LSTM(3, 4, variant=variant).state_dict(), tmp_path / "a.safetensors")
    if found:
        assert layers.described("a", layers.read(tmp_path / "a.safetensors")["lstm"]) == f"a: {found}"
        return
    with pytest.raises(ConveyorError, match="weight_ch_l0: expected 4 H = 16 rows of an LSTM beside it, got 12"):
        layers.read(tmp_path / "a.safetensors")


def test_layers_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    weights = nn.ModuleList(nn.GRU(3, 3) for _ in range(11)).state_dict()
    save_file(weights, tmp_path / "a.safetensors")
    assert [*layers.read(tmp_path / "a.safetensors")] == [str(n) for n in range(11)]


# ONNX


def test_our_own_onnx_comes_back(module: nn.Module, x: np.ndarray, tmp_path: Path) -> None:
    graph = Graph(features=I)
    modules.recurrent(graph, 0, module)  # type: ignore[arg-type]
    content = onnx.to_bytes(graph)
    (tmp_path / "model.onnx").write_bytes(content)
    if b"Scan" in content:
        with pytest.raises(ConveyorError, match="expected an LSTM, a GRU or an RNN among its layers, got none"):
            layers.read(tmp_path / "model.onnx")
        return
    found, y = layers.read(tmp_path / "model.onnx"), x
    for one in layers.chained(found):
        y = output(one, y)
    np.testing.assert_allclose(y, output(module, x), rtol=1e-4, atol=1e-5)


def foreign(kind: str, H: int, D: int, P: bool = False, **attributes: Any) -> Any:
    """A file that another program might have written, and onnxruntime's own result."""
    random, gates = np.random.default_rng(1), {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    shapes = {"W": (D, gates * H, I), "R": (D, gates * H, H), "B": (D, 2 * gates * H)} | (
        {"P": (D, 3 * H)} if P else {}
    )
    constants = [
        numpy_helper.from_array(random.normal(0, 0.5, shape).astype(np.float32), name) for name, shape in shapes.items()
    ]
    inputs = ["x", "W", "R", "B", *(["", "", "", "P"] if P else [])]
    node = helper.make_node(kind, inputs, ["y"], name="/rnn/node", hidden_size=H, **attributes)
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", "B", I]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
    ]
    graph = helper.make_graph([node], "foreign", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=9)


FOREIGN: list[tuple[str, int, bool, dict[str, Any]]] = [
    ("LSTM", 1, False, {}),
    ("LSTM", 2, True, {"direction": "bidirectional"}),
    ("LSTM", 1, True, {"input_forget": 1, "clip": 0.7}),
    ("LSTM", 1, False, {
        "activations": ["HardSigmoid", "ScaledTanh", "Affine"],
        "activation_alpha": [0.3, 1.5, 2.0], "activation_beta": [0.4, 0.6, 0.1],
    }),
    ("LSTM", 1, False, {"activations": ["Sigmoid", "Elu", "Relu"]}),
    ("GRU", 2, False, {"direction": "bidirectional", "linear_before_reset": 1}),
    ("RNN", 1, False, {"activations": ["Relu"]}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "D", "P", "attributes"), FOREIGN)
def test_foreign_onnx(kind: str, D: int, P: bool, attributes: dict[str, Any], x: np.ndarray, tmp_path: Path) -> None:
    model = foreign(kind, 4, D, P, **attributes)
    save(model, str(tmp_path / "foreign.onnx"))
    found = layers.read(tmp_path / "foreign.onnx")
    [expected] = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    wanted = expected.transpose(0, 2, 1, 3).reshape(T, B, -1)
    np.testing.assert_allclose(output(found["rnn.node"], x), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "attributes", "error"),
    [
        ("LSTM", {"direction": "reverse"}, "expected forward or bidirectional, got reverse"),
        ("GRU", {}, "expected linear_before_reset=1"),
        ("LSTM", {"activations": ["Sigmoid", "Tanh", "Cosh"]}, "expected one of Sigmoid.*, got Cosh"),
        (
            "GRU",
            {"linear_before_reset": 1, "activations": ["Sigmoid", "Relu"]},
            "expected activations that torch's GRU has too",
        ),
        ("RNN", {"clip": 1.0}, "clip: of a RNN there is none here"),
    ],
)
def test_onnx_that_is_not_to_be_had(kind: str, attributes: dict[str, Any], error: str, tmp_path: Path) -> None:
    save(foreign(kind, 4, 1, **attributes), str(tmp_path / "foreign.onnx"))
    with pytest.raises(ConveyorError, match=error):
        layers.read(tmp_path / "foreign.onnx")


# Keras


def made(keras: Any) -> Any:
    """A model of every kind of layer, with weights drawn anew: Keras begins biases at zero."""
    L = keras.layers
    inner = keras.Sequential([L.LSTM(3, return_sequences=True, name="inside"), L.Dense(4)], name="part")
    model = keras.Sequential(
        [
            keras.Input((None, I)),
            L.LSTM(4, return_sequences=True, name="first"),
            L.Bidirectional(L.GRU(3, return_sequences=True), name="both"),
            L.SimpleRNN(2, return_sequences=True, activation="relu", name="plain"),
            inner,
            L.LSTM(
                4,
                return_sequences=True,
                activation="softsign",
                recurrent_activation="hard_sigmoid",
                use_bias=False,
                name="last",
            ),
        ]
    )
    random = np.random.default_rng(2)
    model.set_weights([random.normal(0, 0.5, weight.shape) for weight in model.get_weights()])
    return model


def each(model: Any) -> dict[str, Any]:
    """The recurrent layers of a Keras model."""
    found = {}
    for layer in model.layers:
        found |= (
            each(layer)
            if hasattr(layer, "layers")
            else {layer.name: layer}
            if hasattr(layer, "go_backwards") or "both" in layer.name
            else {}
        )
    return found


def test_keras(keras: Any, tmp_path: Path) -> None:
    model = made(keras)
    model.save(tmp_path / "model.keras")
    found = layers.read(tmp_path / "model.keras")
    assert [*found] == ["first", "both", "plain", "inside", "last"]  # in the order of the model
    for name, theirs in each(model).items():
        own = found[name]
        x = np.random.default_rng(0).normal(size=(T, B, own.input_size)).astype(np.float32)
        expected = keras.ops.convert_to_numpy(theirs(x.transpose(1, 0, 2))).transpose(1, 0, 2)
        np.testing.assert_allclose(output(own, x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN"])
@pytest.mark.parametrize("both", [False, True])
def test_keras_reads_what_we_write(keras: Any, kind: str, both: bool, x: np.ndarray, tmp_path: Path) -> None:
    torch.manual_seed(0)
    ours = {"LSTM": LSTM, "GRU": GRU, "SimpleRNN": RNN}[kind](I, 4, 2, bidirectional=both).eval()
    (tmp_path / "ours.weights.h5").write_bytes(layers.to_bytes({"stack": ours}, "keras"))

    def layer() -> Any:
        own = getattr(keras.layers, kind)(4, return_sequences=True)
        return keras.layers.Bidirectional(own) if both else own

    model = keras.Sequential([keras.Input((None, I)), layer(), layer()])
    model.load_weights(tmp_path / "ours.weights.h5")
    found = keras.ops.convert_to_numpy(model(x.transpose(1, 0, 2))).transpose(1, 0, 2)
    np.testing.assert_allclose(found, output(ours, x), rtol=1e-4, atol=1e-5)
    again = layers.chained(layers.read(tmp_path / "ours.weights.h5"))
    y = x
    for one in again:
        y = output(one, y)
    np.testing.assert_allclose(y, output(ours, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"go_backwards": True}, "got go_backwards"),
        ({"activation": "gelu"}, "activation: expected one of tanh.*, got 'gelu'"),
    ],
)
def test_keras_that_is_not_to_be_had(keras: Any, options: dict[str, Any], error: str, tmp_path: Path) -> None:
    keras.Sequential([keras.Input((None, I)), keras.layers.LSTM(4, **options)]).save(tmp_path / "model.keras")
    with pytest.raises(ConveyorError, match=error):
        layers.read(tmp_path / "model.keras")


def test_keras_has_no_variants() -> None:
    for one in (LSTM(I, 4, variant=Variant(peepholes=True)), LSTM(I, 4, proj_size=2)):
        with pytest.raises(ConveyorError, match="Keras has neither projections nor variants"):
            layers.to_bytes({"a": one}, "keras")
    with pytest.raises(ConveyorError, match="a: expected tanh, got relu"):
        layers.to_bytes({"a": RNN(I, 4, nonlinearity="relu")}, "keras")


# The command line


def test_it_says_what_is_unusual(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(foreign("RNN", 4, 1, activations=["Relu"]), str(tmp_path / "a.onnx"))
    assert main(["import", str(tmp_path / "a.onnx"), "-o", str(tmp_path / "a.safetensors")]) == 0
    listing, note = capsys.readouterr().out.splitlines()
    assert listing == "rnn.node: RNN 5 → 4, relu"
    assert "its metadata tell conveyor what is unusual in rnn.node; torch.nn has of that RNN(nonlinearity=" in note
    assert main(["import", str(tmp_path / "a.safetensors")]) == 0
    assert capsys.readouterr().out == f"{listing}\n"


def test_what_the_runtime_would_refuse_is_not_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bundle.safetensors"
    save_file(
        {name: torch.full_like(w, 3.4e38) for name, w in nn.GRU(3, 4).state_dict().items()}, tmp_path / "a.safetensors"
    )
    to = ["import", str(tmp_path / "a.safetensors"), "--to", "bundle", "-o", str(path)]
    assert main(to) == 0
    good = path.read_bytes()
    assert main([*to, "--weights", "bfloat16"]) == 2
    assert "bfloat16: the runtime refuses such a bundle" in capsys.readouterr().err
    assert path.read_bytes() == good


def test_the_command_line(x: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    lstm = nn.LSTM(I, 4, 2)
    save_file(lstm.state_dict(), tmp_path / "model.safetensors")
    assert main(["import", str(tmp_path / "model.safetensors")]) == 0
    assert capsys.readouterr().out == "lstm: LSTM 5 → 4, 2 layers\n"
    assert (
        main(["import", str(tmp_path / "model.safetensors"), "--to", "bundle", "-o", str(tmp_path / "b.safetensors")])
        == 0
    )
    np.testing.assert_allclose(Model.load(tmp_path / "b.safetensors").run(x), output(lstm, x), rtol=1e-5, atol=1e-6)
    assert (
        main(["import", str(tmp_path / "model.safetensors"), "--to", "keras", "-o", str(tmp_path / "k.weights.h5")])
        == 0
    )
    assert len(layers.read(tmp_path / "k.weights.h5")) == 2


def test_a_weights_file_of_keras_has_its_layers_in_their_order(tmp_path: Path) -> None:
    """2 before 10; between layers of different kinds it says none."""
    path = tmp_path / "x.weights.h5"
    path.write_bytes(layers.to_bytes({f"l{n}": LSTM(4, 4) for n in range(12)}, "keras"))
    assert [*layers.read(path)] == [f"l{n}" for n in range(12)]
    path.write_bytes(layers.to_bytes({"a": LSTM(4, 4), "b": GRU(4, 4)}, "keras"))
    with pytest.raises(ConveyorError, match=r"says no order between GRU and LSTM; give the \.keras file"):
        layers.ordered(path, layers.read(path))


MISTAKES: list[tuple[str, bytes, str]] = [
    ("none.onnx", b"", "expected a file, got nothing of that name; check the path"),
    (".", b"", "expected a file, got a folder; name a file in it"),
    ("x.onnx", b"\xff\x00rubbish", "expected an ONNX file"),
    ("x.keras", b"rubbish", "expected a file of Keras 3"),
    ("x.weights.h5", b"\x89HDF\r\n\x1a\n rubbish", "expected a file of Keras 3"),
    ("x.safetensors", b"rubbish", "expected safetensors"),
    ("x.pt", b"rubbish", "a file of torch.save is a program"),
    ("x.txt", b"rubbish", "expected .onnx, .keras, .weights.h5 or .safetensors"),
]


@pytest.mark.parametrize(("name", "content", "error"), MISTAKES)
def test_mistakes(name: str, content: bytes, error: str, tmp_path: Path) -> None:
    if content:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConveyorError, match=error):
        layers.read(tmp_path / name)


@pytest.mark.parametrize(
    ("weights", "error"),
    [
        ({"a.weight_ih_l0": (8, 3)}, "a: weight_hh_l0: expected a matrix, got none"),
        (
            {"weight_ih_l0": (9, 3), "weight_hh_l0": (9, 2)},
            "the layer: expected 4 H, 3 H or H rows over 2 units, got 9 and 9",
        ),
        (
            {"weight_ih_l0": (8, 3), "weight_hh_l0": (8, 2), "bias_ih_l0": (8,)},
            r"the layer: bias_hh_l0: expected \[8\], got none",
        ),
        (
            {"weight_ih_l0": (8, 3), "weight_hh_l0": (8, 2), "bias_ih_l0": (8,), "bias_hh_l0": (7,)},
            r"the layer: bias_hh_l0: expected \[8\], got \[7\]",
        ),
        *(
            ({"weight_ih_l0": w_ih, "weight_hh_l0": (12, 4)} | more, error)
            for w_ih, more, error in [
                ((12, 0), {}, r"weight_ih_l0: expected a matrix, got \[12, 0\]"),
                ((12, 3), {"weight_hr_l0": ()}, r"weight_hr_l0: expected a matrix, got \[\]"),
                (
                    (12, 3),
                    {"weight_hr_l0": (2, 4)},
                    "weight_hr_l0: expected 4 H = 16 rows of an LSTM beside it, got 12",
                ),
                (
                    (12, 3),
                    {"weight_ih_l99999999999": (12, 3)},
                    "weight_ih_l99999999999: expected layers numbered from 0",
                ),
                ((12, 3), {"weight_ih_l1": (12, 4)}, "weight_hh_l1: expected layers numbered from 0.*got none"),
                ((12, 3), {"weight_xy_l0": (12, 4)}, r"weight_xy_l0: expected none, got \[12, 4\]"),
            ]
        ),
        ({"output.weight": (3, 2)}, "expected an LSTM, a GRU or an RNN among its layers, got none"),
    ],
)
def test_state_dicts_that_do_not_fit(weights: dict[str, tuple[int, ...]], error: str, tmp_path: Path) -> None:
    save_file({name: torch.zeros(shape) for name, shape in weights.items()}, tmp_path / "x.safetensors")
    with pytest.raises(ConveyorError, match=error):
        layers.read(tmp_path / "x.safetensors")
