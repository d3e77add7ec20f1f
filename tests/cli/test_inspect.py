"""`conveyor inspect` as a user calls it: what it writes, what it serves, what it refuses."""

import json
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

import conveyor
from conveyor.cli import main
from conveyor.inspect import record
from conveyor.tasks import language_model, protein_structure
from conveyor.training import bundle, checkpoint

TEXT = "Bob is nice."


def untrained(task: object, folder: Path) -> Path:
    """A run of a network with weights as drawn."""
    torch.manual_seed(0)
    config = task.smoke(folder / "data").config  # type: ignore[attr-defined]
    data = task.read(config)  # type: ignore[attr-defined]
    name = task.__name__.rpartition(".")[-1].replace("_", "-")  # type: ignore[attr-defined]
    bundle.write_description(folder, name, config, data.facts)
    bundle.write_weights(folder, task.network(config, data.facts))  # type: ignore[attr-defined]
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained(language_model, Path(tmp_path_factory.mktemp("run")))


def refusal(capsys: pytest.CaptureFixture[str], *args: str | Path) -> str:
    assert main(["inspect", *map(str, args)]) != 0
    return capsys.readouterr().err


def test_all_numbers_as_files(run: Path, tmp_path: Path) -> None:
    seen = record(conveyor.load(run), TEXT)
    assert main(["inspect", str(run), TEXT, "-o", str(tmp_path / "gates.npz")]) == 0
    with np.load(tmp_path / "gates.npz") as arrays:
        assert "".join(arrays["0/labels"]) == TEXT
        for q in "ifgoch":
            np.testing.assert_array_equal(arrays[f"0/lstm 1/{q}"], getattr(seen.at(0), q))
    assert main(["inspect", str(run), TEXT, "Dan", "-o", str(tmp_path / "gates.parquet")]) == 0
    table = pl.read_parquet(tmp_path / "gates.parquet")
    assert len(table) == (len(TEXT) + 3) * 32
    [row] = table.filter(recording=TEXT, step=4, unit=7).to_dicts()
    assert (row["label"], row["layer"], row["f"]) == ("i", "lstm 1", seen.at(0).f[4, 7])


def test_a_corpus_to_look_in(run: Path, tmp_path: Path) -> None:
    corpus, out = tmp_path / "corpus.txt", tmp_path / "gates.npz"
    corpus.write_text(f"{TEXT} {TEXT}")
    assert main(["inspect", str(run), TEXT, "--corpus", str(corpus), "-o", str(out)]) == 0
    with np.load(out) as arrays:
        assert "".join(arrays["1/labels"]) == corpus.read_text()


def test_the_page_as_a_file(run: Path, tmp_path: Path) -> None:
    assert main(["inspect", str(run), "-o", str(tmp_path / "page.html")]) == 0
    assert 'id="answers"' in (tmp_path / "page.html").read_text()


def test_it_serves_and_follows(run: Path, tmp_path: Path) -> None:
    """What is served is that of the model of now."""
    command = [
        sys.executable,
        "-m",
        "conveyor.cli",
        "inspect",
        str(run),
        TEXT,
        "--beside",
        str(run),
        "--no-browser",
        "--follow",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as served:
        assert served.stdout is not None
        address = served.stdout.readline().split()[0]
        about = ask(address, "about")
        assert [one["steps"] for one in about["recordings"]] == [len(TEXT)] * 2
        before = ask(address, "steps?r=0&n=0")["expected"]
        weights = {name: weight + 1 for name, weight in load_file(run / "model.safetensors").items()}
        time.sleep(0.1)
        save_file(weights, run / "new")
        (run / "new").replace(run / "model.safetensors")
        end = time.monotonic() + 60
        while ask(address, "about")["version"] == about["version"] and time.monotonic() < end:
            time.sleep(0.2)
        now = ask(address, "steps?r=0&n=0")["expected"]
        served.send_signal(signal.SIGINT)
        assert served.wait(20) == 130
    assert now != before
    assert now[3][0][1] == pytest.approx(record(conveyor.load(run), TEXT).expected(3)[0][1], abs=1e-5)


def ask(address: str, what: str) -> dict:  # type: ignore[type-arg]
    with urllib.request.urlopen(f"{address}api/{what}", timeout=20) as response:
        answer: dict = json.loads(response.read())  # type: ignore[type-arg]
        return answer


def test_a_run_beside_what_it_was(tmp_path: Path) -> None:
    folder, out = tmp_path / "run", tmp_path / "gates.npz"
    assert main(["train", "language-model", "--smoke", "--run", str(folder)]) == 0
    last = folder / "checkpoints" / "last.safetensors"
    assert main(["inspect", str(folder), TEXT, "--beside", str(last), "-o", str(out)]) == 0
    ours = conveyor.load(folder)
    checkpoint.load_weights(last, ours.network)
    with np.load(out) as arrays:
        np.testing.assert_array_equal(arrays["1/lstm 1/c"], record(ours, TEXT).at(0).c)


def test_mistakes(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "usage: conveyor inspect RUN" in refusal(capsys)
    assert "expected a name that ends in .html, .npz, .parquet" in refusal(capsys, run, TEXT, "-o", "gates.csv")
    assert "[options] unknown option --bside" in refusal(capsys, run, TEXT, "--bside", run)
    assert "--port: expected 0 to 65535, got 70000" in refusal(capsys, run, TEXT, "--port", "70000")
    assert "the text is empty" in refusal(capsys, run, "", "-o", "page.html")
    other = untrained(protein_structure, tmp_path / "other")
    assert "expected runs of language-model, got" in refusal(capsys, run, TEXT, "--beside", other)
    assert "nothing to read; give INPUT behind RUN" in refusal(capsys, other)
    assert "none.fasta" in refusal(capsys, other, "none.fasta", "-o", "page.html")
    assert str(tmp_path / "no") in refusal(capsys, tmp_path / "no", TEXT)
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "a.safetensors").write_bytes((run / "model.safetensors").read_bytes())
    assert "a.safetensors: expected" in refusal(capsys, run, TEXT, "--beside", run / "checkpoints" / "a.safetensors")
    assert not Path("page.html").exists()
