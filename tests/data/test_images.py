"""Images of every mode, and those that are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conveyor.data import images
from conveyor.errors import ConveyorError


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "1", "I;16"])
def test_modes(tmp_path: Path, mode: str) -> None:
    """A light half and a dark half stay so, whatever the mode."""
    grey = np.repeat(np.where(np.arange(40) < 20, 250, 5).astype(np.uint8)[None], 30, 0)
    image = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(grey).convert("RGB")
    file = tmp_path / ("a.tif" if mode in ("CMYK", "I;16") else "a.png")
    (image if mode == "I;16" else image.convert(mode)).save(file)
    pixels = images.read(file, 16)
    assert pixels.shape == (16, 16, 3)
    assert pixels[:, :6].mean() > 200
    assert pixels[:, -6:].mean() < 50


def test_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.jpg")
    content = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "none.jpg").write_bytes(b"no image")
    Image.fromarray(noise[:1, :1]).save(tmp_path / "dot.png")
    for name in ("cut.jpg", "none.jpg", "missing.jpg"):
        with pytest.raises(ConveyorError, match=rf"\[image\] .*{name}: expected a whole image, but "):
            images.read(tmp_path / name, 32)
    with pytest.raises(ConveyorError, match=r"dot\.png: expected 8 pixels or more on each side .* got 1 x 1"):
        images.read(tmp_path / "dot.png", 32)
    Image.new("L", (10_000, 10_000)).save(tmp_path / "huge.png")
    with pytest.raises(ConveyorError, match=r"huge\.png: .* at most 50,000,000 in all, got 10,000 x 10,000"):
        images.read(tmp_path / "huge.png", 32)
