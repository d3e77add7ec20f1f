"""Trees of tensors go to a file and back; a broken or foreign file is told in one sentence."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from conveyor.errors import ConveyorError
from conveyor.training import files, tensors


def test_round_trip(tmp_path: Path) -> None:
    weight = torch.randn(3, 4)
    tree = {
        "same": [weight, weight],
        "view": weight.t()[1:],
        3: (None, True, 0.1, float("inf"), "text"),
        "empty": torch.zeros(0),
        "scalar": torch.tensor(5.0, dtype=torch.float64),
    }
    tensors.write(tmp_path / "tree.safetensors", tree)
    again = tensors.read_tree(tmp_path / "tree.safetensors", "test")
    assert list(again) == list(tree)
    assert again[3] == tree[3]
    torch.testing.assert_close(again["same"], tree["same"], rtol=0, atol=0)
    torch.testing.assert_close(again["view"], tree["view"], rtol=0, atol=0)
    assert again["empty"].shape == (0,)
    assert again["scalar"].dtype == torch.float64


def test_truncated_or_foreign(tmp_path: Path) -> None:
    path = tmp_path / "tree.safetensors"
    tensors.write(path, {"weight": torch.ones(100)})
    whole = path.read_bytes()
    for content in (whole[:-10], whole[:20], b"", b"PK\x03\x04 a zip file of pickles"):
        path.write_bytes(content)
        with pytest.raises(ConveyorError, match=r"^\[test\] .*tree\.safetensors: expected a safetensors file, but"):
            tensors.read_tree(path, "test")
    path.unlink()
    with pytest.raises(ConveyorError, match="cannot be read"):
        tensors.read_tree(path, "test")


def test_only_known_things_are_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="cannot be written: set"):
        tensors.write(tmp_path / "tree.safetensors", {"a": {1}})


def test_full_disk_keeps_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    files.write(tmp_path / "file", b"good")
    monkeypatch.setattr(os, "fsync", full)
    expected = r"\[write\] .*/file: No space left on device; the earlier file is unharmed; make room"
    with pytest.raises(ConveyorError, match=expected):
        files.write(tmp_path / "file", b"new")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"good"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"a": torch.ones(2)}, "x: b is missing"),
        ({"a": torch.ones(2), "b": torch.ones(3), "c": torch.ones(1)}, "x: c is not known"),
        ({"a": torch.ones(3), "b": torch.ones(3)}, r"x: a: expected \[2\] float32, got \[3\] float32"),
        ({"a": torch.ones(2).double(), "b": torch.ones(3)}, r"x: a: expected \[2\] float32, got \[2\] float64"),
        ({"a": torch.tensor([1, float("nan")]), "b": torch.ones(3)}, "x: a has 1 values that are NaN or infinite"),
    ],
)
def test_match(found: dict[str, torch.Tensor], expected: str) -> None:
    with pytest.raises(ConveyorError, match=f"^{expected}$"):
        tensors.match(found, {"a": torch.zeros(2), "b": torch.zeros(3)}, "x")
