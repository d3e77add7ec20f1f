"""Features of an ONNX encoder: right, kept, and refused where they are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from conveyor.data.records import BadRecords
from conveyor.errors import ConveyorError
from conveyor.training import features
from conveyor.training.features import Encoder


def encoder(path: Path, output: str) -> str:
    """An encoder whose map is the image averaged over squares of 2 x 2, and whose vector is its mean colour."""
    nodes = [
        helper.make_node("AveragePool", ["images"], ["map"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["images"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["vector"]),
    ]
    shapes = {"map": ["N", 3, "h", "w"], "vector": ["N", 3]}
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in output.split()]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, "H", "W"])
    graph = helper.make_graph(nodes, "encoder", [images], outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return str(path)


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    random = np.random.default_rng(4)
    for n in range(40):
        Image.fromarray(random.integers(0, 256, (14, 14, 3), dtype=np.uint8)).save(tmp_path / f"{n:02}.png")
    return sorted(tmp_path.glob("*.png"))


def test_features(pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Encoder(encoder(tmp_path / "e.onnx", "map vector"), 14)
    assert one.sizes == (3, 3)
    found, good = one.features(pictures, BadRecords(False))
    assert good == pictures
    for n in (0, 17, 39):
        pixels = np.asarray(Image.open(pictures[n])).astype(np.float64)
        places = pixels.reshape(7, 2, 7, 2, 3).mean((1, 3)).reshape(49, 3)
        np.testing.assert_allclose(found.maps[n], places, rtol=1e-3)
        np.testing.assert_allclose(found.vectors[n], pixels.mean((0, 1)), rtol=1e-3)
    monkeypatch.setattr(Encoder, "run", None)  # from here on nothing can be computed
    again, _ = one.features(pictures, BadRecords(False))
    np.testing.assert_array_equal(again.maps, found.maps)


def test_large_maps_are_averaged() -> None:
    maps = np.random.default_rng(1).random((2, 3, 13, 9))
    small = features._averaged(maps)
    assert small.shape == (2, 3, 7, 7)
    np.testing.assert_allclose(small[0, 1, 0, 0], maps[0, 1, :1, :1].mean())
    np.testing.assert_allclose(small[1, 2, 6, 6], maps[1, 2, 11:, 7:].mean())


def test_bad_images_are_left_out(pictures: list[Path], tmp_path: Path) -> None:
    pictures[3].write_bytes(b"no image")
    one = Encoder(encoder(tmp_path / "e.onnx", "map"), 14)
    with pytest.raises(ConveyorError, match=r"03\.png: expected a whole image"):
        one.features(pictures, BadRecords(False))
    bad = BadRecords(True)
    found, good = one.features(pictures, bad)
    assert (len(found.maps), len(good), bad.count) == (39, 39, 1)
    assert pictures[3] not in good


def test_no_encoders(tmp_path: Path) -> None:
    with pytest.raises(ConveyorError, match=r"expected an output \[N, D, h, w\], a feature map, got \[1, 3\]"):
        Encoder(encoder(tmp_path / "v.onnx", "vector"), 14)
    (tmp_path / "none.onnx").write_bytes(b"no model")
    with pytest.raises(ConveyorError, match=r"none\.onnx: expected a model in ONNX"):
        Encoder(str(tmp_path / "none.onnx"), 14)
    with pytest.raises(ConveyorError, match=r"gone\.onnx: cannot be read"):
        Encoder(str(tmp_path / "gone.onnx"), 14)
