"""Recordings with what is said in them, as samples and as bands of energy.

Texts are told by a table: CSV with a header (file, audio, video or id; text or caption; what else is there describes
the recording), LJSpeech's metadata (`id|text`, without a header), or Kaldi's `text` (an id and the text in each line).
With the columns start and end, in seconds, or start_frame and end_frame, in frames of a video, a row is of this part of
its recording alone. A recording is found by its name or its stem among the files and folders given, and beside the
table.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from conveyor.data import text
from conveyor.data.records import BadRecords
from conveyor.errors import ConveyorError

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".opus", ".m4a", ".aiff", ".au")
NAMES, TEXTS = ("file", "audio", "wav", "path", "video", "id"), ("text", "transcript", "caption", "sentence", "word")
LONGEST = 600
"""Seconds of a recording, at most."""
SILENCE = 1e-5
WINDOW, HOP = 0.025, 0.010
"""Seconds of a frame, and from one to the next."""
BANDS = 40
FLOOR = 1e-6
"""Energy that is added to each band, so that silence has a logarithm."""


class Recording(NamedTuple):
    """A recording with its text."""

    path: Path
    text: str
    about: dict[str, str]
    """What else its table says of it."""
    where: str
    start: float = 0.0
    """Seconds; the end may be infinite."""
    end: float = float("inf")

    @property
    def whole(self) -> bool:
        """Whether it is all of its recording."""
        return self.start == 0 and self.end == float("inf")

    def frames(self, of_recording: np.ndarray) -> np.ndarray:
        """Its frames of all those of its recording; always one at least."""
        first, last = (round(min(at, LONGEST) / HOP) for at in (self.start, self.end))
        if first >= len(of_recording):
            raise ConveyorError(
                f"[data] {self.where}: expected a start within the {len(of_recording) * HOP:.2f} s of "
                f"{self.path.name}, got {self.start:g}; mend it"
            )
        return of_recording[first : max(last, first + 1)]


def read_table(
    paths: Sequence[Path], bad: BadRecords, leave_out: Sequence[str] = (), frame_rate: float = 25.0
) -> list[Recording]:
    """The recordings that tables among the files and folders name, without those of texts that are left out."""
    inside = [file for path in paths for file in _files(path)]
    tables = [file for file in inside if file.suffix == ".csv" or file.name == "text"]
    near = [file for table in tables for file in table.parent.rglob("*")]
    heard = [file for file in (*near, *inside) if file.suffix.lower() in SUFFIXES]
    sounds = {name: file for file in heard for name in (file.stem, file.name)}
    found = []
    for table in tables:
        for name, said, about, where in _rows(table):
            with bad.record():
                path = sounds.get(Path(name).name) or sounds.get(Path(name).stem)
                if path is None:
                    raise ConveyorError(f"[data] {where}: no recording {name} is there; give it, or mend its name")
                if not said:
                    raise ConveyorError(f"[data] {where}: expected what is said in {path.name}, got nothing; write it")
                if said not in leave_out:
                    found.append(Recording(path, said, about, where, *_span(about, where, frame_rate)))
    if not found:
        raise ConveyorError(
            f"[data] {', '.join(map(str, paths))}: expected recordings and a table of what is said in them (.csv, or "
            f"Kaldi's text), got {len({*heard}):,} recordings and {len(tables)} tables{bad.summary()}"
        )
    return found


def _span(about: dict[str, str], where: str, frame_rate: float) -> tuple[float, float]:
    """The seconds at which a row of a table begins and ends."""
    frames = "start_frame" in about or "end_frame" in about
    first, last = (about.get(f"{name}_frame" if frames else name) for name in ("start", "end"))
    try:
        start, end = (float(at) / (frame_rate if frames else 1) for at in (first or 0, last or "inf"))
    except ValueError as error:
        raise ConveyorError(f"[data] {where}: expected numbers of seconds or frames, but {error}; mend it") from None
    if not 0 <= start < end:
        raise ConveyorError(f"[data] {where}: expected a start before the end, got {start:g} and {end:g} s; mend it")
    return start, end


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise ConveyorError(f"[data] {path}: no such file or folder; check the path given to --data")
    return sorted(path.rglob("*")) if path.is_dir() else [path]


def _rows(table: Path) -> Iterator[tuple[str, str, dict[str, str], str]]:
    lines = text.read(table).splitlines()
    if table.name == "text":
        for n, line in enumerate(lines, 1):
            name, _, said = line.strip().partition(" ")
            yield name, said.strip(), {}, f"{table}:{n}"
    elif lines and "|" in lines[0]:
        for n, line in enumerate(lines, 1):
            parts = line.split("|")
            yield parts[0], parts[-1].strip() if parts[1:] else "", {}, f"{table}:{n}"
    else:
        reader = csv.DictReader(lines)
        named = [*(reader.fieldnames or [])]
        file, said_in = (next((name for name in named if name in known), "") for known in (NAMES, TEXTS))
        if not file or not said_in:
            raise ConveyorError(
                f"[data] {table}:1: expected a column of {', '.join(NAMES)} and one of {', '.join(TEXTS)}, got "
                f"{', '.join(map(str, named))}; rename them"
            )
        for n, row in enumerate(reader, 2):
            about = {name: value or "" for name, value in row.items() if name not in (None, file, said_in)}
            yield row[file] or "", (row[said_in] or "").strip(), about, f"{table}:{n}"


def read(path: Path, rate: int) -> np.ndarray:
    """The samples of a recording, -1 to 1, of all channels together, so many a second."""
    import av

    chunks: list[np.ndarray] = []
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise ConveyorError(f"[sound] {path}: expected a recording, but there is no sound in it; give another")
            resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
            for frame in container.decode(container.streams.audio[0]):
                chunks += [part.to_ndarray()[0] for part in resampler.resample(frame)]
                if sum(map(len, chunks)) > LONGEST * rate:
                    raise ConveyorError(f"[sound] {path}: expected at most {LONGEST} s; cut it into sentences")
            chunks += [part.to_ndarray()[0] for part in resampler.resample(None)]
    except (av.FFmpegError, OSError) as error:
        raise ConveyorError(f"[sound] {path}: expected a recording, but {error.strerror}; copy it again") from None
    return checked(np.concatenate([np.zeros(0, np.float32), *chunks]), rate, str(path))


def checked(samples: np.ndarray, rate: int, where: str) -> np.ndarray:
    """Samples that are long and loud enough to hear something."""
    if samples.ndim != 1 or len(samples) < WINDOW * rate:
        raise ConveyorError(
            f"[sound] {where}: expected {WINDOW * 1000:.0f} ms or more of one channel, got {[*samples.shape]} samples; "
            "give another"
        )
    if not np.isfinite(samples).all() or np.abs(samples).max() < SILENCE:
        raise ConveyorError(f"[sound] {where}: expected sound, got silence or no numbers; give another")
    return samples.astype(np.float32)


class Bands:
    """Sound as frames of logarithms of the energy in bands of the mel scale, as it comes in.

    Frame t is of the samples from t hops on, as long as the window; the energies are those of a Hann window.
    """

    def __init__(self, rate: int, bands: int = BANDS) -> None:
        self.window, self.hop = round(WINDOW * rate), round(HOP * rate)
        self.hann = np.hanning(self.window).astype(np.float32)
        self.points = 1 << (self.window - 1).bit_length()
        self.filters = _filters(rate, self.points, bands)
        self.rest = np.zeros(0, np.float32)

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """The frames [T, bands] that the samples so far complete."""
        self.rest = np.concatenate([self.rest, samples.astype(np.float32)])
        count = max(0, 1 + (len(self.rest) - self.window) // self.hop)
        if not count:
            return np.zeros((0, len(self.filters)), np.float32)
        views = np.lib.stride_tricks.sliding_window_view(self.rest, self.window)[:: self.hop][:count]
        power = np.abs(np.fft.rfft(views * self.hann, self.points)) ** 2 / self.window
        self.rest = self.rest[count * self.hop :]
        logs: np.ndarray = np.log(power @ self.filters.T + FLOOR).astype(np.float32)
        return logs


def bands(samples: np.ndarray, rate: int, count: int = BANDS) -> np.ndarray:
    """The frames [T, count] of all samples."""
    return Bands(rate, count)(samples)


@cache
def _filters(rate: int, points: int, count: int) -> np.ndarray:
    """Triangles [count, points / 2 + 1] that overlap by half, evenly on the mel scale (2595 log10(1 + f / 700))."""
    mel = np.linspace(0, 2595 * np.log10(1 + rate / 2 / 700), count + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    at = np.fft.rfftfreq(points, 1 / rate)
    slopes = (at - edges[:-1, None]) / np.diff(edges)[:, None]  # 0 to 1 between two edges
    rising, falling = slopes[:-1], slopes[1:]
    triangles: np.ndarray = np.clip(np.minimum(rising, 1 - falling), 0, None)
    return triangles


def split(keys: Sequence[Any], valid_share: float, test_share: float, seed: int) -> list[set[Any]]:
    """Which keys train, validate and test, drawn from the seed."""
    known = sorted({*keys})
    order = np.random.default_rng(seed).permutation(len(known))
    counts = [max(1, round(len(known) * share)) if share else 0 for share in (valid_share, test_share)]
    if sum(counts) >= len(known):
        raise ConveyorError(f"[data] expected more recordings than {sum(counts)} to split, got {len(known)}; give more")
    bounds = np.cumsum([len(known) - sum(counts), *counts])[:-1]
    return [{known[n] for n in part} for part in np.split(order, bounds)]
