"""The demo, on little text and for a moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from conveyor.cli import demo, main
from conveyor.data import python_text


def test_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(python_text, "read", lambda: f"{demo.SENTENCE}\n{demo.PROMPT}\n" * 400)
    monkeypatch.setattr(demo, "compare", lambda *_: [3000.0, 1500.0])
    assert main(["demo", "--minutes", "0.03"]) == 0
    said = capsys.readouterr().out
    [run] = (tmp_path / "runs" / "demo").iterdir()
    assert "conveyor.LSTM      3,000 tokens/s" in said
    assert "ratio               2.00" in said
    assert "Held-out text: perplexity " in said
    assert f"    after {demo.PROMPT!r} comes" in said
    assert str(run.relative_to(tmp_path)) in said
    for name in ("gates.png", "curves.png", "report.md", "model.safetensors"):
        assert (run / name).stat().st_size > 0
