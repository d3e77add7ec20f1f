"""The demo, on little text and for a moment."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from conveyor.cli import demo, main
from conveyor.data import python_text
from conveyor.data.streams import Streams
from conveyor.training.task import Data


def test_a_measurement_that_contradicts_itself_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = {"tokenizer": {"kind": "char", "alphabet": "abc"}}
    data = Data(*[Streams(torch.ones(9, dtype=torch.int64), 1, 4, 9)] * 3, facts, "")
    monkeypatch.setattr(demo, "compare", lambda *_: [[1200.0] * 6, [600.0] * 3 + [500.0] * 3])
    assert demo.show_speed(demo.task.Config(), data) == 1200
    said = capsys.readouterr().out
    assert "medians of 6 rounds of 1 s in turn:" in said
    assert "busy: 2.00 in the first 3 rounds, 2.40 after" in said


def test_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(python_text, "read", lambda: f"{demo.SENTENCE}\n{demo.PROMPT}\n" * 400)
    monkeypatch.setattr(demo, "compare", lambda *_: [[3000.0] * 6, [1500.0] * 6])
    assert main(["demo", "--minutes", "0.03"]) == 0
    said = capsys.readouterr().out
    [run] = (tmp_path / "runs" / "demo").iterdir()
    assert "conveyor.LSTM      3,000 tokens/s" in said
    assert "ratio               2.00" in said
    assert "busy" not in said
    assert "Held-out text: perplexity " in said
    assert f"    after {demo.PROMPT!r} comes" in said
    assert str(run.relative_to(tmp_path)) in said
    for name in ("gates.png", "curves.png", "report.md", "model.safetensors"):
        assert (run / name).stat().st_size > 0
