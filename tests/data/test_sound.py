"""Readers of recordings, their tables, and bands of energy."""

import io
import wave
from pathlib import Path

import numpy as np
import pytest

from conveyor.data import sound
from conveyor.data.records import BadRecords
from conveyor.errors import ConveyorError

RATE = 8000


def tone(seconds: float = 0.5, hertz: float = 1000, rate: int = RATE, loud: float = 0.5) -> np.ndarray:
    return loud * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def write(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    """[N] or [N, channels]"""
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).clip(-32768, 32767).astype("<i2").tobytes())
    path.write_bytes(content.getvalue())
    return path


def test_any_rate_and_number_of_channels(tmp_path: Path) -> None:
    plain = sound.read(write(tmp_path / "a.wav", tone()), RATE)
    assert plain == pytest.approx(tone(), abs=1e-4)
    eight = sound.read(write(tmp_path / "b.wav", np.stack([tone()] * 8, 1)), RATE)
    assert np.corrcoef(eight, plain)[0, 1] == pytest.approx(1)
    fast = sound.read(write(tmp_path / "c.wav", tone(rate=96_000), 96_000), RATE)
    assert len(fast) == pytest.approx(len(plain), abs=40)
    assert np.corrcoef(fast[100:3900], plain[100:3900])[0, 1] > 0.999
    clipped = sound.read(write(tmp_path / "d.wav", tone(loud=5)), RATE)
    assert np.abs(clipped).max() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (np.zeros(0), r"expected 25 ms or more of one channel, got \[0\] samples"),
        (np.zeros(RATE), "expected sound, got silence or no numbers"),
        (b"RIFF no wave at all", "expected a recording, but Invalid data"),
        (b"", "expected a recording, but Invalid data"),
    ],
)
def test_bad_recordings(tmp_path: Path, content: np.ndarray | bytes, says: str) -> None:
    path = tmp_path / "a.wav"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        write(path, content)
    with pytest.raises(ConveyorError, match=f"a\\.wav: {says}"):
        sound.read(path, RATE)


def test_bands_of_a_tone() -> None:
    """The loudest band is the one whose triangle has the tone; frames stand 10 ms apart."""
    found = sound.bands(tone(1.0), RATE)
    assert found.shape == (98, sound.BANDS)
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), sound.BANDS + 2) / 2595) - 1)
    loudest = set(found.argmax(1).tolist())
    assert len(loudest) == 1
    band = loudest.pop()
    assert edges[band] < 1000 < edges[band + 2]


@pytest.mark.parametrize("chunk", [1, 37, 80, 1000, 5000])
def test_bands_of_a_stream(chunk: int) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 4321).astype(np.float32)
    stream = sound.Bands(RATE)
    found = np.concatenate([stream(samples[n : n + chunk]) for n in range(0, len(samples), chunk)])
    assert np.array_equal(found, sound.bands(samples, RATE))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("texts.csv", "file,text,speaker\na.wav,hello,jo\nb.wav,good bye,jo\n"),
        ("captions.csv", "video,caption\na.mp4,hello\nb.mp4,good bye\n"),
        ("metadata.csv", "a|Hello|hello\nb|Good bye|good bye\n"),
        ("text", "a hello\nb good bye\n"),
    ],
)
def test_tables(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    (tmp_path / "wavs").mkdir()
    for stem in "ab":
        write(tmp_path / "wavs" / f"{stem}.wav", tone())
    found = sound.read_table([tmp_path], BadRecords(False))
    assert [(one.path.name, one.text) for one in found] == [("a.wav", "hello"), ("b.wav", "good bye")]
    assert [one.about.get("speaker") for one in found] == (["jo"] * 2 if name == "texts.csv" else [None] * 2)


def test_bad_tables(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", tone())
    with pytest.raises(ConveyorError, match=r"got 1 recordings and 0 tables"):
        sound.read_table([tmp_path], BadRecords(False))
    (tmp_path / "t.csv").write_text("file,text\nnone.wav,hello\na.wav,\na.wav,yes\n")
    with pytest.raises(ConveyorError, match=r"t\.csv:2: no recording none\.wav is there"):
        sound.read_table([tmp_path], BadRecords(False))
    bad = BadRecords(True)
    assert [one.text for one in sound.read_table([tmp_path], bad)] == ["yes"]
    assert bad.count == 2
    (tmp_path / "t.csv").write_text("sound,words\na.wav,hello\n")
    with pytest.raises(ConveyorError, match=r"t\.csv:1: expected a column of file, .* got sound, words; rename them"):
        sound.read_table([tmp_path], BadRecords(False))
    with pytest.raises(ConveyorError, match="no such file or folder"):
        sound.read_table([tmp_path / "none"], BadRecords(False))


def test_parts_of_recordings(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", tone())
    (tmp_path / "whole.csv").write_text("file,text\na.wav,hello\n")
    (tmp_path / "words.csv").write_text("file,start_frame,end_frame,word\na.wav,0,2.5,sil\na.wav,2.5,5,hel\n")
    (tmp_path / "seconds.csv").write_text("file,start,end,word\na.wav,0.1,0.2,hel\na.wav,0.2,,lo\na.wav,9,,so\n")
    found = sound.read_table([tmp_path], BadRecords(False), ["sil"], frame_rate=25)
    spans = {(one.text, one.start, one.end) for one in found}
    end = float("inf")
    assert spans == {("hello", 0, end), ("hel", 0.1, 0.2), ("lo", 0.2, end), ("so", 9, end)}
    assert [one.text for one in found if one.whole] == ["hello"]
    frames, of = np.arange(30), {(one.text, one.start): one for one in found}
    assert of["hello", 0].frames(frames).tolist() == [*range(30)]
    assert of["hel", 0.1].frames(frames).tolist() == [*range(10, 20)]
    assert of["lo", 0.2].frames(frames).tolist() == [*range(20, 30)]
    with pytest.raises(ConveyorError, match=r"seconds\.csv:4: expected a start within the 0\.30 s of a\.wav, got 9;"):
        of["so", 9].frames(frames)


@pytest.mark.parametrize(
    ("span", "error"), [("2,1", "a start before the end, got 2 and 1 s"), ("x,1", "numbers of seconds or frames")]
)
def test_wrong_parts_of_recordings(tmp_path: Path, span: str, error: str) -> None:
    write(tmp_path / "a.wav", tone())
    (tmp_path / "t.csv").write_text(f"file,start,end,text\na.wav,{span},hello\n")
    with pytest.raises(ConveyorError, match=rf"t\.csv:2: expected {error}"):
        sound.read_table([tmp_path], BadRecords(False))


def test_a_split_is_drawn_from_its_seed() -> None:
    keys = [f"{n:02}" for n in range(40)] * 2
    parts = sound.split(keys, 0.1, 0.2, 3)
    assert [len(part) for part in parts] == [28, 4, 8]
    assert set.union(*parts) == {*keys}
    assert parts == sound.split(keys, 0.1, 0.2, 3) != sound.split(keys, 0.1, 0.2, 4)
    with pytest.raises(ConveyorError, match="expected more recordings than 2 to split, got 2"):
        sound.split(["a", "b"], 0.1, 0.1, 0)
