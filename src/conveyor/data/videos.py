"""Videos as frames, and tables of what is said or shown in them.

A table (CSV) has the columns video, and caption or word; with start_frame and end_frame a row is of these frames alone.
That a video is whole is told by the number of frames that its header promises, or by how long Matroska and WebM say
that it is; MPEG program streams (.mpg) promise nothing, so that one of them that is cut off is a shorter video.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from conveyor.data import text
from conveyor.data.records import BadRecords
from conveyor.errors import ConveyorError

VIDEOS = (".mp4", ".avi", ".mkv", ".mov", ".mpg", ".mpeg", ".webm", ".m4v")
MOST_WORDS = 100
MOST_FRAMES = 20_000
LACKING = 0.1
"""So much of its time a video may lack at its end: it may be held there by a single picture."""


class Clip(NamedTuple):
    """A video or a part of it, and what is said of it."""

    video: Path
    caption: str
    """Words in lower case with spaces between."""
    start: float
    end: float
    """Frames, of which the last is not counted; infinite for all."""
    where: str

    @property
    def whole(self) -> bool:
        """Whether it is all of its video."""
        return self.start == 0 and self.end == float("inf")

    def frames(self, of_video: np.ndarray) -> np.ndarray:
        """Its frames of all those of its video; always one at least."""
        if self.start >= len(of_video):
            raise ConveyorError(
                f"[data] {self.where}: expected a start within the {len(of_video):,} frames of {self.video.name}, "
                f"got {self.start:g}; mend it"
            )
        first = min(max(0, round(self.start)), len(of_video) - 1)
        last = len(of_video) if self.end == float("inf") else round(self.end)
        return of_video[first : max(last, first + 1)]


def read(path: Path, width: int, height: int, colour: bool = False) -> np.ndarray:
    """The frames of a video, 0 to 255: grey [T, height, width], or in colour [T, height, width, 3]."""
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ConveyorError(f"[video] {path}: expected a video, but it has no stream of pictures; give another")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            promised, seconds, seen = stream.frames, _seconds(stream.metadata.get("DURATION", "")), 0.0
            frames: list[np.ndarray] = []
            for frame in container.decode(stream):
                if len(frames) == MOST_FRAMES:
                    raise ConveyorError(f"[video] {path}: expected at most {MOST_FRAMES:,} frames; cut it into clips")
                frames.append(frame.reformat(width, height, "rgb24" if colour else "gray").to_ndarray())
                seen = (frame.time or 0.0) + float((frame.duration or 0) * (frame.time_base or 0))
    except (av.FFmpegError, OSError) as error:
        raise ConveyorError(f"[video] {path}: expected a whole video, but {error.strerror}; copy it again") from None
    if not frames or len(frames) < promised:
        more = f"{promised:,} frames, as it promises" if promised else "frames"
        raise ConveyorError(f"[video] {path}: expected {more}, got {len(frames):,}; copy it again")
    if seen < (1 - LACKING) * seconds:
        raise ConveyorError(f"[video] {path}: expected {seconds:g} s, got {seen:g}; copy it again")
    return np.stack(frames)


def _seconds(said: str) -> float:
    """Of "00:01:02.5"; 0 of anything else."""
    parts = said.split(":")
    try:
        return sum(float(part) * unit for part, unit in zip(parts, (3600, 60, 1), strict=True))
    except ValueError:
        return 0.0


def read_clips(paths: Sequence[Path], leave_out: Sequence[str], bad: BadRecords) -> list[Clip]:
    """The clips of tables among files and folders; the videos lie there too, or beside their table."""
    found = [file for path in paths for file in _files(path)]
    tables = [file for file in found if file.suffix == ".csv"]
    beside = [file for table in tables for file in _files(table.parent)]
    videos: dict[str, Path] = {}
    for file in (*beside, *found):
        if file.suffix.lower() in VIDEOS and not videos.setdefault(file.name, file).samefile(file):
            raise ConveyorError(
                f"[data] {file}: expected each video once, but {videos[file.name]} has its name; rename one, or give "
                "folders that have no other videos beside their tables"
            )
    clips = [clip for table in tables for clip in _clips(table, videos, leave_out, bad)]
    if not clips:
        raise ConveyorError(
            f"[data] {', '.join(map(str, paths))}: expected a folder of videos, and a CSV with the columns video and "
            f"caption, got {len(videos):,} videos and no captions{bad.summary()}"
        )
    return clips


def scored(clips: Sequence[Clip]) -> list[Clip]:
    """Those that captions are written for: the whole videos, or where there are none all clips."""
    return [clip for clip in clips if clip.whole] or [*clips]


def split(clips: Sequence[Clip], valid_share: float, test_share: float, seed: int) -> list[list[Clip]]:
    """What trains, validates and tests; all clips of a video are in one part."""
    videos = sorted({clip.video for clip in clips})
    order = np.random.default_rng(seed).permutation(len(videos))
    counts = [max(1, round(len(videos) * share)) for share in (valid_share, test_share)]
    if sum(counts) >= len(videos):
        raise ConveyorError(f"[data] expected more videos than {sum(counts)} to split, got {len(videos)}; give more")
    bounds = np.cumsum([len(videos) - sum(counts), *counts])[:-1]
    return [[clip for clip in clips if clip.video in {videos[n] for n in part}] for part in np.split(order, bounds)]


def _clips(table: Path, videos: dict[str, Path], leave_out: Sequence[str], bad: BadRecords) -> list[Clip]:
    rows = csv.DictReader(text.read(table).splitlines())
    names = rows.fieldnames or []
    said = next((name for name in ("caption", "word") if name in names), None)
    if "video" not in names or said is None:
        raise ConveyorError(f"[data] {table}: expected columns video, and caption or word, got {', '.join(names)}")
    clips = []
    for n, row in enumerate(rows, 2):
        where = f"{table}:{n}"
        with bad.record():
            words = (row[said] or "").lower().split()
            if not 0 < len(words) <= MOST_WORDS:
                raise ConveyorError(
                    f"[data] {where}: expected a caption of 1 to {MOST_WORDS} words, got {len(words):,}; mend it"
                )
            if row["video"] not in videos:
                raise ConveyorError(f"[data] {where}: a caption of {row['video']}, but no such video is there; give it")
            if " ".join(words) not in leave_out:
                clips.append(Clip(videos[row["video"]], " ".join(words), *_span(row, where), where))
    return clips


def _span(row: dict[str, str], where: str) -> tuple[float, float]:
    """First frame, and the one behind the last."""
    try:
        start, end = float(row.get("start_frame") or 0), float(row.get("end_frame") or "inf")
    except ValueError as error:
        raise ConveyorError(f"[data] {where}: expected numbers of frames, but {error}; mend it") from None
    if not 0 <= start < end:
        raise ConveyorError(f"[data] {where}: expected a start before the end, got {start:g} and {end:g}; mend it")
    return start, end


def _files(path: Path) -> list[Path]:
    """The file, or the files of a folder and of its folder of videos."""
    if not os.path.exists(path):
        raise ConveyorError(f"[data] {path}: no such file or folder; check the path given to --data")
    if not path.is_dir():
        return [path]
    inside = sorted(path.iterdir())
    return [file for one in inside for file in (sorted(one.iterdir()) if one.is_dir() else [one])]
