"""Readers of small pictures."""

import gzip
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conveyor.data import pictures
from conveyor.data.records import BadRecords
from conveyor.errors import ConveyorError

SOME = np.arange(3 * 8 * 8, dtype=np.uint8).reshape(3, 8, 8)


def idx(values: np.ndarray) -> bytes:
    return bytes([0, 0, 8, 3]) + np.array(values.shape, ">u4").tobytes() + values.tobytes()


def read(path: Path, size: int = 8, skip: bool = False) -> dict[str, np.ndarray]:
    return pictures.read([path], size, BadRecords(skip))


def test_idx_files(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(SOME)))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(b"not read")
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(SOME[:1]))
    found = read(tmp_path)
    assert np.array_equal(found["train"], SOME)
    assert np.array_equal(found["test"], SOME[:1])
    assert found["valid"].shape == (0, 8, 8)


def test_npz_and_folders_of_mixed_sizes(tmp_path: Path) -> None:
    content = io.BytesIO()
    np.savez(content, pictures=SOME, labels=np.arange(3))
    (tmp_path / "valid.npz").write_bytes(content.getvalue())
    for n, size in enumerate(((8, 8), (30, 20), (9, 100))):
        Image.new("RGB", size, (255, 255, 255)).save(tmp_path / f"{n}.png")
    found = read(tmp_path)
    assert {name: len(part) for name, part in found.items()} == {"train": 3, "valid": 3, "test": 0}
    assert (found["train"] == 255).all()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a-idx3-ubyte", idx(SOME)[:-5], "expected an IDX file of bytes"),
        ("a-idx3-ubyte", b"", "expected an IDX file of bytes"),
        ("a-idx3-ubyte.gz", b"no gzip", "expected an IDX file, but"),
        ("a.npz", b"PK", r"expected arrays in \.npz, but"),
        ("a.png", b"no image", "expected a whole image, but"),
        ("a.txt", b"", r"expected images, IDX or \.npz, got none"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConveyorError, match=says):
        read(tmp_path / name)


def test_other_sizes_and_shapes(tmp_path: Path) -> None:
    (tmp_path / "a-idx3-ubyte").write_bytes(idx(SOME))
    with pytest.raises(ConveyorError, match=r"expected pictures of 28 x 28 \(--size\), got 8 x 8"):
        read(tmp_path, 28)
    content = io.BytesIO()
    np.savez(content, a=SOME.astype(float))
    (tmp_path / "b.npz").write_bytes(content.getvalue())
    with pytest.raises(ConveyorError, match=r"expected one array .* of bytes, got a \[3, 8, 8\] float64"):
        read(tmp_path / "b.npz")
    with pytest.raises(ConveyorError, match="no such file or folder"):
        read(tmp_path / "none")
