"""MIDI files: read as piano rolls, frames [T, 88], 1 where a key of the piano sounds; and written from them.

A file is cut into so many frames a beat, the beat being MIDI's quarter note, whatever tempo and time signature say:
both may change within a piece and move no frame. A note sounds from the frame nearest to its start up to the one
nearest to its end, and in one frame at least; one that is never released sounds to the end of its track. All tracks and
channels sound together, but for drums (channel 10). The pedal is not read. Silent beats before the first note are left
out, and so is the silence behind the last.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mido  # type: ignore[import-untyped]
import numpy as np

from conveyor.errors import ConveyorError

KEYS = 88
LOWEST = 21
"""MIDI's number of the lowest key, A0."""
DRUMS = 9
"""MIDI's channel 10, counted from 0."""
LONGEST = 100_000
"""Frames of the longest piece: an hour has about 30,000, and what is longer is no music but damage."""
TICKS = 480
"""Ticks a beat of the files written here."""
TEMPO = 120.0
"""Beats a minute where nothing else is said, as MIDI has it."""
NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


class Roll(NamedTuple):
    """A piece of music."""

    frames: np.ndarray  # [T, 88] of uint8
    tempo: float  # beats a minute, at the start


def name_of(key: int) -> str:
    """What musicians call a key: 39 is C4."""
    octave, tone = divmod(key + LOWEST, 12)
    return f"{NAMES[tone]}{octave - 1}"


def read(path: Path, steps: int) -> Roll:
    """A MIDI file as frames, `steps` a beat."""
    file = _parse(path)
    tempos = [message.tempo for track in file.tracks for message in track if message.type == "set_tempo"]
    notes = [note for number, track in enumerate(file.tracks) for note in _notes(track, f"{path}, track {number}")]
    if not notes:
        raise ConveyorError(f"[midi] {path}: expected notes, got none but perhaps drums; give another file")
    table = np.array(notes)
    start = np.round(table[:, 1] * (steps / file.ticks_per_beat)).astype(np.int64)
    end = np.maximum(start + 1, np.round(table[:, 2] * (steps / file.ticks_per_beat)).astype(np.int64))
    silent = int(start.min()) // steps * steps
    length = int(end.max()) - silent
    if length > LONGEST:
        raise ConveyorError(f"[midi] {path}: expected {LONGEST:,} frames or fewer, got {length:,}; cut the piece")
    frames = np.zeros((length, KEYS), np.uint8)
    for key, first, last in zip(table[:, 0], start - silent, end - silent, strict=True):
        frames[first:last, key] = 1
    return Roll(frames, 6e7 / tempos[0] if tempos and tempos[0] else TEMPO)


def _parse(path: Path) -> Any:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConveyorError(f"[midi] {path}: cannot be read ({error.strerror}); check the path") from None
    if not content:
        raise ConveyorError(f"[midi] {path}: the file is empty; copy it again")
    try:
        file = mido.MidiFile(file=io.BytesIO(content))
    except (EOFError, OSError, ValueError, LookupError, TypeError, mido.KeySignatureError) as error:
        said = str(error) or "it ends too early"
        raise ConveyorError(f"[midi] {path}: expected MIDI, but {said}; copy the file again") from None
    if file.type == 2:
        raise ConveyorError(f"[midi] {path}: expected MIDI of type 0 or 1, got 2, which is many pieces; split the file")
    if file.ticks_per_beat <= 0:
        raise ConveyorError(
            f"[midi] {path}: expected time in ticks a beat, got {file.ticks_per_beat}, which is time by the clock; "
            "save it again in beats"
        )
    return file


def _notes(track: Any, where: str) -> list[tuple[int, int, int]]:
    """Key, start and end of each note, in ticks."""
    now, notes = 0, []
    sounding: dict[tuple[int, int], int] = {}
    for message in track:
        now += message.time
        if message.type not in ("note_on", "note_off") or message.channel == DRUMS:
            continue
        key = message.note - LOWEST
        if not 0 <= key < KEYS:
            raise ConveyorError(
                f"[midi] {where}, tick {now:,}: expected notes {LOWEST} to {LOWEST + KEYS - 1}, the keys of a piano, "
                f"got {message.note}; transpose the piece"
            )
        before = sounding.pop((message.channel, key), None)  # struck again, or released
        if before is not None:
            notes.append((key, before, now))
        if message.type == "note_on" and message.velocity:
            sounding[message.channel, key] = now
    return notes + [(key, start, now) for (_, key), start in sounding.items()]


def write(rolls: Sequence[Roll], names: Sequence[str], steps: int) -> bytes:
    """Pieces as one MIDI file, `steps` frames a beat: a track each, one after the other, four beats between two.

    What sounds in frames next to each other is one note.
    """
    file = mido.MidiFile(type=1, ticks_per_beat=TICKS)
    events: list[tuple[int, Any]] = []
    begin = 0.0
    for roll, name in zip(rolls, names, strict=True):
        at = np.round((begin + np.arange(len(roll.frames) + 1) / steps) * TICKS).astype(int)
        microseconds = min(max(round(6e7 / roll.tempo), 1), 2**24 - 1)  # a beat; three bytes hold it
        events.append((int(at[0]), mido.MetaMessage("set_tempo", tempo=microseconds)))
        file.tracks.append(_track(name, _strokes(roll.frames, at)))
        begin += len(roll.frames) / steps + 4
    file.tracks.insert(0, _track("", events))
    content = io.BytesIO()
    file.save(file=content)
    return content.getvalue()


def _strokes(frames: np.ndarray, at: np.ndarray) -> list[tuple[int, Any]]:
    """What keys do, and at which tick; frame n begins at tick `at[n]`."""
    edges = np.diff(np.pad(frames.astype(np.int8), ((1, 1), (0, 0))), axis=0)
    kinds = {1: "note_on", -1: "note_off"}
    return [
        (int(at[n]), mido.Message(kinds[int(edges[n, key])], note=int(key) + LOWEST, velocity=80))
        for n, key in np.argwhere(edges)
    ]


def _track(name: str, events: list[tuple[int, Any]]) -> Any:
    named = name.encode("latin-1", "replace").decode("latin-1")  # what MIDI's texts hold
    track, before = mido.MidiTrack([mido.MetaMessage("track_name", name=named)] if name else []), 0
    for tick, message in events:
        track.append(message.copy(time=tick - before))
        before = tick
    return track
