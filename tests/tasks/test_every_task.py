"""Every task there is, from its own made-up data to a prediction on disk: the shape that each of them has."""

from __future__ import annotations

from pathlib import Path

import pytest

import conveyor
from conveyor import tasks
from conveyor.cli import main


@pytest.mark.parametrize("name", tasks.summaries())
def test_smoke(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert main(["train", name, "--smoke", "--run", str(run), "--threads", "1"]) == 0
    assert (run / "report.md").read_text().count("\n") > 10
    assert main(["evaluate", str(run)]) == 0
    capsys.readouterr()
    inputs = tasks.find(name).smoke(tmp_path / "again").inputs
    assert main(["predict", str(run), *inputs]) == 0
    assert capsys.readouterr().out.strip()
    model = conveyor.load(run)
    results = model.predict(*inputs)
    assert len(results) == len(inputs)
    for ending in model.task.ENDINGS:
        file = tmp_path / f"predictions{ending}"
        assert main(["predict", str(run), *inputs, "-o", str(file)]) == 0
        assert file.stat().st_size > 0
    assert main(["predict", str(run), *inputs, "-o", str(tmp_path / "predictions.xyz")]) == 2
    assert f"expected a name that ends in {model.task.ENDINGS[0]}" in capsys.readouterr().err
