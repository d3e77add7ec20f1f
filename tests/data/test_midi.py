"""MIDI files: what becomes a frame, what is written, and files that are wrong."""

from __future__ import annotations

import io
import random
from pathlib import Path

import mido
import numpy as np
import pytest

from conveyor.data import midi
from conveyor.data.midi import KEYS, LOWEST, Roll
from conveyor.errors import ConveyorError

Event = tuple[int, str, dict[str, int]]


def on(delta: int, note: int, velocity: int = 80, channel: int = 0) -> Event:
    return delta, "note_on", {"note": note, "velocity": velocity, "channel": channel}


def off(delta: int, note: int, channel: int = 0) -> Event:
    return delta, "note_off", {"note": note, "channel": channel}


def meta(delta: int, kind: str, **values: int) -> Event:
    return delta, kind, values


def put(path: Path, *tracks: list[Event], kind: int = 1, ticks: int = 480) -> Path:
    """A MIDI file of these tracks."""
    file = mido.MidiFile(type=kind, ticks_per_beat=ticks)
    for events in tracks:
        messages = [
            (mido.Message if name.startswith(("note", "control")) else mido.MetaMessage)(name, time=delta, **values)
            for delta, name, values in events
        ]
        file.tracks.append(mido.MidiTrack(messages))
    file.save(path)
    return path


def sounding(roll: Roll) -> list[list[int]]:
    """MIDI's notes in each frame."""
    return [(np.flatnonzero(frame) + LOWEST).tolist() for frame in roll.frames]


def test_notes_become_frames(tmp_path: Path) -> None:
    """Two tracks and two channels; released by note-off or by a velocity of 0; drums left out."""
    first = [on(0, 60), on(480, 64, channel=1), off(480, 60), on(0, 64, velocity=0, channel=1)]
    second = [on(240, 21), off(240, 21), on(0, 35, channel=9), off(9600, 35, channel=9)]
    roll = midi.read(put(tmp_path / "a.mid", first, second), steps=2)
    assert sounding(roll) == [[60], [21, 60], [60, 64], [60, 64]]
    assert roll.tempo == 120


def test_times_go_to_the_nearest_frame(tmp_path: Path) -> None:
    """A quarter of a frame early or late does not matter; a grace note gets a frame; a chord out of step is one."""
    track = [on(0, 60), on(25, 64), off(215, 60), off(10, 64), on(200, 70), off(4, 70), on(26, 72), off(480, 72)]
    assert sounding(midi.read(put(tmp_path / "a.mid", track), steps=2)) == [[60, 64], [], [70, 72], [72]]


def test_struck_again_before_it_was_released(tmp_path: Path) -> None:
    track = [on(0, 60), on(240, 60), off(240, 60), off(240, 60), on(240, 62), off(240, 62)]
    assert sounding(midi.read(put(tmp_path / "a.mid", track), steps=2)) == [[60], [60], [], [], [62]]


def test_a_note_never_released_sounds_to_the_end_of_its_track(tmp_path: Path) -> None:
    track = [on(0, 60), on(480, 62), off(480, 62), meta(480, "end_of_track")]
    other = [on(0, 50), off(240, 50), meta(4800, "end_of_track")]
    frames = sounding(midi.read(put(tmp_path / "a.mid", track, other), steps=1))
    assert frames == [[50, 60], [60, 62], [60]]


def test_tempo_and_time_signature_move_no_frame(tmp_path: Path) -> None:
    changes = [
        meta(0, "set_tempo", tempo=1_000_000), meta(0, "time_signature", numerator=3, denominator=8),
        meta(240, "set_tempo", tempo=250_000), meta(0, "time_signature", numerator=4, denominator=4),
    ]  # fmt: skip
    notes = [on(0, 60), off(480, 60), on(0, 62), off(480, 62)]
    plain = midi.read(put(tmp_path / "a.mid", notes), steps=4)
    changing = midi.read(put(tmp_path / "b.mid", changes, notes), steps=4)
    assert np.array_equal(plain.frames, changing.frames)
    assert sounding(plain) == [[60]] * 4 + [[62]] * 4
    assert changing.tempo == 60  # the first of them


def test_silent_beats_before_the_first_note_are_left_out(tmp_path: Path) -> None:
    """Whole beats only, so that beats stay where they are in the frames."""
    track = [on(3 * 480 + 240, 60), off(240, 60), meta(4800, "end_of_track")]
    assert sounding(midi.read(put(tmp_path / "a.mid", track), steps=4)) == [[], [], [60], [60]]


def test_every_key_and_the_lengths_of_any_division(tmp_path: Path) -> None:
    """The lowest key and the highest; ticks a beat that no number of frames divides."""
    track = [on(0, 21), on(0, 108), off(91, 21), off(0, 108)]
    roll = midi.read(put(tmp_path / "a.mid", track, ticks=91), steps=6)
    assert sounding(roll) == [[21, 108]] * 6
    assert roll.frames[:, [0, 87]].all()
    assert [midi.name_of(key) for key in (0, 39, 87)] == ["A0", "C4", "C8"]


def drawn(seed: int, length: int = 41) -> np.ndarray:
    frames = (np.random.default_rng(seed).random((length, KEYS)) < 0.1).astype(np.uint8)
    frames[0, 0] = frames[-1, 87] = 1  # no silence at the ends
    return frames


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 12])
def test_what_is_written_reads_the_same(tmp_path: Path, steps: int) -> None:
    frames = drawn(steps)
    (tmp_path / "a.mid").write_bytes(midi.write([Roll(frames, 93.5)], ["a piece"], steps))
    roll = midi.read(tmp_path / "a.mid", steps)
    assert np.array_equal(roll.frames, frames)
    assert roll.tempo == pytest.approx(93.5, rel=1e-4)


def test_several_pieces_follow_each_other(tmp_path: Path) -> None:
    """A track each with its name, four beats of rest between, each at its own tempo."""
    one, two = drawn(1, 10), drawn(2, 6)
    content = midi.write([Roll(one, 60.0), Roll(two, 120.0)], ["Böhm.mid", "日本"], 2)
    (tmp_path / "a.mid").write_bytes(content)
    frames = midi.read(tmp_path / "a.mid", 2).frames
    assert np.array_equal(frames, np.concatenate([one, np.zeros((8, KEYS)), two]))
    file = mido.MidiFile(file=io.BytesIO(content))
    assert [track.name for track in file.tracks] == ["", "Böhm.mid", "??"]
    tempos = [(m.time, m.tempo) for m in file.tracks[0] if m.type == "set_tempo"]
    assert tempos == [(0, 1_000_000), ((5 + 4) * midi.TICKS, 500_000)]
    assert file.length == pytest.approx((5 + 4) * 1.0 + 3 * 0.5)


def test_sounding_on_is_one_note() -> None:
    frames = np.zeros((4, KEYS), np.uint8)
    frames[:3, 10] = frames[2:, 20] = 1
    file = mido.MidiFile(file=io.BytesIO(midi.write([Roll(frames, 120.0)], ["x"], 1)))
    strokes = [(m.time, m.type, m.note) for m in file.tracks[1] if not m.is_meta]
    assert strokes == [(0, "note_on", 31), (960, "note_on", 41), (480, "note_off", 31), (480, "note_off", 41)]


@pytest.mark.parametrize("tempo", [0.001, 1e9])
def test_any_tempo_can_be_written(tempo: float) -> None:
    mido.MidiFile(file=io.BytesIO(midi.write([Roll(drawn(0), tempo)], ["x"], 1)))


# Files that are wrong


def test_files_that_are_no_midi(tmp_path: Path) -> None:
    path = tmp_path / "a.mid"
    with pytest.raises(ConveyorError, match=r"a.mid: cannot be read \(No such file"):
        midi.read(path, 4)
    path.write_bytes(b"")
    with pytest.raises(ConveyorError, match=r"a.mid: the file is empty"):
        midi.read(path, 4)
    path.write_bytes(b"RIFF, which is a sound")
    with pytest.raises(ConveyorError, match=r"a.mid: expected MIDI, but MThd not found"):
        midi.read(path, 4)
    content = midi.write([Roll(drawn(0), 120.0)], ["x"], 4)
    path.write_bytes(content[:-20])
    with pytest.raises(ConveyorError, match=r"a.mid: expected MIDI, but it ends too early; copy the file again"):
        midi.read(path, 4)


def test_any_damage_is_told(tmp_path: Path) -> None:
    """Bytes changed, lost and put in: frames or a ConveyorError, and nothing else."""
    content = midi.write([Roll(drawn(0), 120.0)], ["x"], 4)
    random.seed(1)
    read, told = 0, []
    for _ in range(400):
        damaged = bytearray(content)
        for _ in range(random.randint(1, 3)):
            place = random.randrange(len(damaged))
            damaged[place : place + random.randrange(2)] = random.randbytes(random.randrange(3))
        (tmp_path / "a.mid").write_bytes(damaged)
        try:
            read += bool(midi.read(tmp_path / "a.mid", 4).frames.any())
        except ConveyorError as error:
            told.append(str(error))
    assert read + len(told) == 400
    assert read > 20
    assert len(told) > 100
    assert all("a.mid" in text for text in told)


def test_no_notes(tmp_path: Path) -> None:
    """An empty track, text alone, drums alone, releases without a start."""
    tracks = [[], [meta(0, "set_tempo", tempo=1000)], [on(0, 40, channel=9), off(9, 40, channel=9)], [off(9, 60)]]
    for track in tracks:
        with pytest.raises(ConveyorError, match=r"a.mid: expected notes, got none but perhaps drums"):
            midi.read(put(tmp_path / "a.mid", track), 4)


@pytest.mark.parametrize("note", [20, 109, 0, 127])
def test_notes_a_piano_has_not(tmp_path: Path, note: int) -> None:
    path = put(tmp_path / "a.mid", [on(0, 60), off(480, 60)], [on(1200, note), off(9, note)])
    with pytest.raises(
        ConveyorError, match=rf"a.mid, track 1, tick 1,200: expected notes 21 to 108.*got {note}; trans"
    ):
        midi.read(path, 4)


def test_kinds_of_file_that_are_not_read(tmp_path: Path) -> None:
    notes = [on(0, 60), off(480, 60)]
    with pytest.raises(ConveyorError, match="expected MIDI of type 0 or 1, got 2"):
        midi.read(put(tmp_path / "a.mid", notes, kind=2), 4)
    path = put(tmp_path / "b.mid", notes)
    content = bytearray(path.read_bytes())
    content[12:14] = (-25 * 256 + 40).to_bytes(2, "big", signed=True)  # 25 frames a second, 40 ticks each
    path.write_bytes(content)
    with pytest.raises(ConveyorError, match=r"b.mid: expected time in ticks a beat, got .*save it again in beats"):
        midi.read(path, 4)


def test_a_piece_without_end(tmp_path: Path) -> None:
    track = [on(0, 60), *([off(0x0FFFFFFF, 60)] * 3), on(0, 61), off(480, 61)]
    with pytest.raises(ConveyorError, match=r"a.mid: expected 100,000 frames or fewer, got .*; cut the piece"):
        midi.read(put(tmp_path / "a.mid", track), 4)
