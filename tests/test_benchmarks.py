"""The benchmarks run, compare and report; how fast is not asked here."""

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def test_layer(tmp_path: Path) -> None:
    options = ["--points", "5,2,3,4", "3,1,2,2", "--threads", "1", "--seconds", "0.01"]
    files = ["--output", str(tmp_path / "layer.md"), "--picture", str(tmp_path / "layer.png")]
    command = [sys.executable, str(BENCHMARKS / "layer.py"), *options, *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    report = (tmp_path / "layer.md").read_text()
    assert report == done.stdout
    assert [line[:14] for line in report.splitlines() if line.startswith("| 5")] == ["| 5, 2, 3, 4 |"] * 2
    assert report.count("geometric mean") == 2
    assert (tmp_path / "layer.png").stat().st_size > 10_000


def test_memory() -> None:
    """A float32 layer keeps at least its output and its cell states: 2 MiB here."""
    command = [sys.executable, str(BENCHMARKS / "memory.py"), "conveyor", "train", "256,16,32,64"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert 2 < float(done.stdout) < 50


def test_language_model(tmp_path: Path) -> None:
    options = ["--models", "word-200", "--threads", "1", "--seconds", "0.01", "--output", str(tmp_path / "report.md")]
    command = [sys.executable, str(BENCHMARKS / "language_model.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    report = (tmp_path / "report.md").read_text()
    assert report == done.stdout
    assert report.count("| word-200: V 10,000, T 35, B 20 |") == 1


def test_decoding() -> None:
    command = [
        sys.executable,
        str(BENCHMARKS / "decoding.py"),
        "--threads",
        "1",
        "--sentences",
        "4",
        "--seconds",
        "0.01",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert [line[:5] for line in done.stdout.splitlines()[4:]] == ["| 1 |", "| 5 |"]
