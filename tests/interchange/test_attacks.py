"""Files of other libraries with something wrong in each: one line says what, and nothing else is raised."""

import io
import json
import random
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save
from torch import nn

from conveyor import LSTM
from conveyor.errors import ConveyorError
from conveyor.interchange import layers


def values(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def said(path: Path, content: bytes) -> str:
    """What is said of it, in a line."""
    path.write_bytes(content)
    with pytest.raises(ConveyorError) as error:
        layers.read(path)
    assert str(error.value).startswith(f"[import] {path}: ")
    assert "\n" not in str(error.value)
    return str(error.value)


# ONNX


def node(kind: str = "LSTM", D: int = 1, **attributes: Any) -> onnx.ModelProto:
    rows = {"LSTM": 16, "RNN": 4}[kind]
    shapes = {"W": (D, rows, 3), "R": (D, rows, 4), "B": (D, 2 * rows), "P": (D, 12)}
    inputs = ["x", "W", "R", "B", *(["", "", "", "P"] if kind == "LSTM" else [])]
    own = helper.make_node(kind, inputs, ["y"], name="l", **{"hidden_size": 4} | attributes)
    constants = [numpy_helper.from_array(values(*shape), name) for name, shape in shapes.items()]
    return helper.make_model(helper.make_graph([own], "g", [], [], constants))


def constant(name: str, tensor: TensorProto | np.ndarray) -> onnx.ModelProto:
    """One of them replaced."""
    model = node()
    given = numpy_helper.from_array(tensor, name) if isinstance(tensor, np.ndarray) else tensor
    next(one for one in model.graph.initializer if one.name == name).CopyFrom(given)
    return model


def outside(location: str) -> TensorProto:
    tensor = TensorProto(name="W", data_type=1, dims=[1, 16, 3], data_location=1)
    tensor.external_data.add(key="location", value=location)
    return tensor


ONNX: list[tuple[onnx.ModelProto, str]] = [
    (node(activations=["Sigmoid"]), "l: activations: expected 3, got 1"),
    (node(activations=[1, 2, 3]), "l: activations: expected STRINGS"),
    (node(activations=["Affine", "Tanh", "Tanh"], activation_alpha=[float("nan")]), "gate_activation: expected"),
    (node(direction=3), "l: direction: expected STRING"),
    (node(direction="both"), "expected forward or bidirectional, got both"),
    (node(clip=-1.0), "clip: expected a number above zero"),
    (node(clip=float("nan")), "clip: expected a number above zero"),
    (node(clip="abc"), "l: clip: expected FLOAT"),
    (node(clipp=1.0), "l: expected attributes of direction"),
    (node(hidden_size=7), "l: W: expected [D, 4 H, I] = [1, 28, 3], none of them 0, got [1, 16, 3]"),
    (node(D=3), "l: W: expected [D, 4 H, I] = [1, 16, 3], none of them 0, got [3, 16, 3]"),
    (node("RNN", D=0), "l: W: expected [D, 1 H, I] = [1, 4, 3], none of them 0, got [0, 4, 3]"),
    (constant("W", values(16, 3)), "expected weights W and R of three dimensions"),
    (constant("W", values(1, 15, 3)), "got [1, 15, 3]"),
    (constant("R", values(1, 16, 0)), "l: R: expected [D, 4 H, H] = [1, 16, 4], none of them 0, got [1, 16, 0]"),
    (constant("B", values(1, 16)), "l: B: expected [D, 8 H] = [1, 32]"),
    (constant("P", values(1, 11)), "l: P: expected [D, 3 H] = [1, 12]"),
    (constant("W", np.array([[["a"] * 3] * 16], object)), "l: W: expected floating numbers"),
    (constant("W", TensorProto(name="W", data_type=99, dims=[1, 16, 3])), "W: expected floating numbers"),
    (constant("W", TensorProto(name="W", data_type=1, dims=[1, 16, 3], raw_data=bytes(8))), "expected a tensor"),
    (constant("W", TensorProto(name="W", data_type=1, dims=[1 << 40, 16, 3])), "expected a tensor"),
    (constant("W", outside("missing.bin")), "expected an ONNX file, but"),
    (constant("W", outside("../../../../etc/passwd")), "expected an ONNX file, but"),
    (
        helper.make_model(helper.make_graph([helper.make_node("Constant", [], [], value=TensorProto())], "g", [], [])),
        "expected an LSTM, a GRU or an RNN among its layers, got none",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("model", "error"), ONNX, ids=[error for _, error in ONNX])
def test_onnx(model: onnx.ModelProto, error: str, tmp_path: Path) -> None:
    assert error in said(tmp_path / "x.onnx", model.SerializeToString())


def test_onnx_names_that_are_no_text(tmp_path: Path) -> None:
    content = node().SerializeToString().replace(b"\x1a\x01l", b"\x1a\x01\xff")
    (tmp_path / "x.onnx").write_bytes(content)
    assert [*layers.read(tmp_path / "x.onnx")] == [r"b'\xff'"]


def test_onnx_nodes_of_one_name(tmp_path: Path) -> None:
    model = node()
    model.graph.node.add().CopyFrom(model.graph.node[0])
    model.graph.node[1].input[7] = ""
    (tmp_path / "x.onnx").write_bytes(model.SerializeToString())
    found = layers.read(tmp_path / "x.onnx")
    assert [layers.described(*one) for one in found.items()] == ["l: LSTM 3 → 4, peepholes=True", "l_1: LSTM 3 → 4"]


# Keras

LSTMS = [values(3, 16), values(4, 16), values(16)]


def weights(*directions: list[Any]) -> bytes:
    """A `.weights.h5`; an array may be what makes it."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for arrays, side in zip(directions, ("forward_layer/", "backward_layer/"), strict=False):
            group = file.create_group(f"layers/l/{side if len(directions) > 1 else ''}cell/vars")
            for n, array in enumerate(arrays):
                array(group, str(n)) if callable(array) else group.create_dataset(str(n), data=array)
    return content.getvalue()


def huge(group: h5py.Group, name: str) -> None:
    group.create_dataset(name, shape=(10**6, 10**7), dtype="f4", chunks=(1000, 1000))


HDF5: list[tuple[bytes, str]] = [
    (weights(LSTMS, [values(5, 16), *LSTMS[1:]]), "backward_layer: expected shapes as forward"),
    (weights(LSTMS, LSTMS[:2]), "backward_layer: expected shapes as forward"),
    (weights([huge, *LSTMS[1:]]), "expected arrays as Keras writes them, not compressed and whole"),
    (weights([values(3, 16), values(0, 16), values(16)]), "expected kernels [I, G H] and [H, G H]"),
    (weights([values(0, 16), values(4, 16), values(16)]), "expected kernels [I, G H] and [H, G H]"),
    (weights([values(16), values(16), values(16)]), "expected kernels [I, G H] and [H, G H], got [16] and [16]"),
    (weights([values(), *LSTMS[1:]]), "expected kernels [I, G H] and [H, G H], got [] and [4, 16]"),
    (weights([*LSTMS[:2], values(15)]), "bias: expected [16], got [15]"),
    (weights([values(3, 12), values(4, 12), values(12)]), "bias: expected [2, 12], the GRU of torch and cuDNN"),
    (weights([h5py.Group.create_group, *LSTMS[1:]]), "expected arrays of floating numbers"),
    (weights(["text", *LSTMS[1:]]), "expected arrays of floating numbers"),
    (weights([LSTMS[0].astype(np.uint16), *LSTMS[1:]]), "expected arrays of floating numbers"),
    (weights(LSTMS[:1]), "expected two kernels and a bias or none, got 1"),
    (weights(LSTMS)[:1500], "expected a file of Keras 3, but"),
]


@pytest.mark.parametrize(("content", "error"), HDF5)
def test_weights_of_keras(content: bytes, error: str, tmp_path: Path) -> None:
    assert error in said(tmp_path / "x.weights.h5", content)


def test_broken_names_of_keras(tmp_path: Path) -> None:
    """HDF5 would not come back from them."""
    content = bytearray(layers.to_bytes({"a": LSTM(3, 4)}, "keras"))
    heap = content.index(b"GCOL")
    name = content.index(b"a\0\0\0\0\0\0\0", heap)
    content[name + 16 : name + 24] = bytes(8)  # how much is free behind it
    assert "its names are broken" in said(tmp_path / "x.weights.h5", bytes(content))


def archive(config: str | None = None, **more: Any) -> bytearray:
    """A `.keras`; `more` is what the layer says besides."""
    own = {"class_name": "LSTM", "config": {"name": "layers/l", "activation": "tanh"} | more}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("config.json", json.dumps({"config": {"layers": [own]}}) if config is None else config)
        file.writestr("model.weights.h5", weights(LSTMS))
    return bytearray(content.getvalue())


def changed(at: int, value: int) -> bytes:
    """That byte of the heads of both files, which stands 2 further on in the list of contents."""
    content = archive()
    for head, more in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
        place = -1
        while (place := content.find(head, place + 1)) >= 0:
            content[place + at + more] = value
    return bytes(content)


def rubbish() -> bytes:
    content = archive()
    place = content.find(b"model.weights.h5") + 30
    content[place : place + 40] = random.Random(0).randbytes(40)
    return bytes(content)


KERAS: list[tuple[bytes | bytearray, str]] = [
    (rubbish(), "expected a file of Keras 3, but Error -3 while decompressing"),
    (changed(6, 1), "is encrypted"),
    (changed(8, 77), "compression method is not supported"),
    (archive("{"), "expected a file of Keras 3, but"),
    (archive("[" * 100_000), "expected a file of Keras 3, but"),
    (archive("[1]"), "config.json tells of no LSTM, GRU or SimpleRNN of that name"),
    (archive(name=["a"]), "config.json tells of no LSTM, GRU or SimpleRNN of that name"),
    (archive(activation=["a"]), "activation: expected one of tanh"),
    (archive(activation={"a": 1}), "activation: expected one of tanh"),
    (archive(layer=3, merge_mode="concat"), "expected a layer of two directions"),
]


@pytest.mark.parametrize(("content", "error"), KERAS)
def test_archives_of_keras(content: bytes | bytearray, error: str, tmp_path: Path) -> None:
    assert error in said(tmp_path / "x.keras", bytes(content))


# Torch

CELLS = [
    ("[", "expected safetensors, but"),
    ("[" * 100_000, "expected safetensors, but"),
    ("[]", "metadata: conveyor.cells: expected an object of texts, got []"),
    ('{"lstm": 1}', "metadata: conveyor.cells: expected an object of texts"),
    ('{"lstm": "rnn_sin"}', "expected a cell of lstm, gru"),
    ('{"lstm": "gru"}', "bias_hh_l0: expected [12], got [16]"),
    ('{"lstm": "lstm{"}', "Expecting property name"),
    ('{"lstm": "lstm{\\"x\\": 1}"}', "unexpected keyword argument 'x'"),
    ('{"lstm": "lstm{\\"clip\\": -1}"}', "clip: expected a number above zero"),
    ('{"lstm": "lstm{\\"gate_activation\\": [[]]}"}', "gate_activation: expected"),
    ('{"lstm": "lstm{\\"proj_clip\\": 1}"}', "expected proj_clip=None without proj_size"),
]  # fmt: skip


@pytest.mark.parametrize(("cells", "error"), CELLS, ids=[cells[:40] for cells, _ in CELLS])
def test_cells_of_a_state_dict(cells: str, error: str, tmp_path: Path) -> None:
    assert error in said(tmp_path / "x.safetensors", save(nn.LSTM(3, 4).state_dict(), {"conveyor.cells": cells}))


@pytest.mark.parametrize("dtype", [torch.int32, torch.complex64])
def test_numbers_that_are_no_weights(dtype: torch.dtype, tmp_path: Path) -> None:
    weights = {name: weight.to(dtype) for name, weight in nn.GRU(3, 4).state_dict().items()}
    assert "expected floating numbers, got torch." in said(tmp_path / "x.safetensors", save(weights))


def test_names_that_cannot_be_printed(tmp_path: Path) -> None:
    weights = {f"a\n\x1b[31m.{name}": weight for name, weight in nn.GRU(3, 4).state_dict().items()}
    assert r"'a\n\x1b[31m': expected a name that can be printed" in said(tmp_path / "x.safetensors", save(weights))
    said(tmp_path / "x.safetensors", save({"a\n.weight_ih_l0": torch.zeros(2)}))


# All


GOOD = {
    "x.onnx": node(direction="bidirectional", D=2).SerializeToString(),
    "x.weights.h5": layers.to_bytes({"a": LSTM(3, 4, bidirectional=True)}, "keras"),
    "x.keras": bytes(archive()),
    "x.safetensors": layers.to_bytes({"a": LSTM(3, 4, variant="coupled")}, "torch"),
}


@pytest.mark.parametrize("name", GOOD)
def test_changed_bytes(name: str, tmp_path: Path) -> None:
    """Each file is read, or refused in a line."""
    (tmp_path / name).write_bytes(GOOD[name])
    assert layers.read(tmp_path / name)
    chance, errors = random.Random(0), []
    for _ in range(150):
        content = bytearray(GOOD[name])
        for _ in range(chance.choice((1, 2, 4))):
            content[chance.randrange(min(len(content), chance.choice((700, 1 << 20))))] = chance.randrange(256)
        (tmp_path / name).write_bytes(content)
        try:
            layers.read(tmp_path / name)
        except ConveyorError as error:
            errors.append(str(error))
    assert errors
    assert "\n" not in "".join(errors)
