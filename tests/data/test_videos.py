"""Videos frame by frame, clips of tables, and what is wrong with some."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from conveyor.data import videos
from conveyor.data.records import BadRecords
from conveyor.errors import ConveyorError


def video(path: Path, count: int = 12, codec: str = "mpeg4") -> Path:
    """Frame t is grey, 20 t, for the first twelve."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(25))
        stream.width, stream.height = 64, 32
        for t in range(count):
            frame = av.VideoFrame.from_ndarray(np.full((32, 64, 3), 20 * t % 240, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_frames(tmp_path: Path) -> None:
    frames = videos.read(video(tmp_path / "a.mp4"), 16, 8)
    assert frames.shape == (12, 8, 16)
    np.testing.assert_allclose(frames.mean((1, 2)), 20 * np.arange(12), atol=4)
    assert videos.read(video(tmp_path / "one.mp4", 1), 16, 8).shape == (1, 8, 16)


def test_damaged(tmp_path: Path) -> None:
    """Cut off, without frames, with other frames than promised, no video, no file."""
    (tmp_path / "none.mp4").write_bytes(b"no video")
    (tmp_path / "empty.mp4").write_bytes(b"")
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    for name in ("none.mp4", "empty.mp4", "missing.mp4"):
        with pytest.raises(ConveyorError, match=rf"\[video\] .*{name}: expected a whole video, but "):
            videos.read(tmp_path / name, 16, 8)
    with pytest.raises(ConveyorError, match=r"sound\.mp4: expected a video, but it has no stream of pictures"):
        videos.read(tmp_path / "sound.mp4", 16, 8)


@pytest.mark.parametrize(
    ("ending", "kept", "says"),
    [
        ("mp4", 0.5, r"expected a whole video, but "),  # its table of contents stands at its end
        ("avi", 0.9, r"expected a whole video, but |expected 40 frames, as it promises, got 3\d; copy it again"),
        ("mkv", 0.6, r"expected 1\.6 s, got [01]\.\d+; copy it again"),
    ],
)
def test_cut_off(tmp_path: Path, ending: str, kept: float, says: str) -> None:
    file = video(tmp_path / f"a.{ending}", 40)
    assert len(videos.read(file, 16, 8)) == 40
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ConveyorError, match=rf"\[video\] .*a\.{ending}: {says}"):
        videos.read(file, 16, 8)


def test_promised_frames_that_are_not_there(tmp_path: Path) -> None:
    """A header that says 40 in front of 12 frames, and one in front of none."""
    file = video(tmp_path / "a.avi")
    content = file.read_bytes()
    promise = content.index(b"strh") + 8 + 32
    assert content[promise : promise + 4] == (12).to_bytes(4, "little")
    file.write_bytes(content[:promise] + (40).to_bytes(4, "little") + content[promise + 4 :])
    with pytest.raises(ConveyorError, match=r"a\.avi: expected 40 frames, as it promises, got 12; copy it again"):
        videos.read(file, 16, 8)
    file.write_bytes(content[: content.index(b"movi") + 4])
    with pytest.raises(ConveyorError, match=r"a\.avi: expected "):
        videos.read(file, 16, 8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "videos").mkdir()
    for n in range(10):
        (tmp_path / "videos" / f"{n}.mp4").write_bytes(b"")
    return tmp_path


def test_clips(folder: Path) -> None:
    rows = "".join(
        f"{n}.mp4,{8.0 * k},{8 * k + 7.75},{word}\n" for n in range(10) for k, word in enumerate(("sil", "Bin"))
    )
    (folder / "words.csv").write_text(f"video,start_frame,end_frame,word\n{rows}")
    clips = videos.read_clips([folder], ("sil",), BadRecords(False))
    assert [(clip.video.stem, clip.caption, clip.start, clip.end) for clip in clips[:2]] == [
        ("0", "bin", 8.0, 15.75),
        ("1", "bin", 8.0, 15.75),
    ]
    frames = np.arange(20)
    assert clips[0].frames(frames).tolist() == [*range(8, 16)]
    assert clips[0]._replace(start=19.6, end=19.9).frames(frames).tolist() == [19]
    assert clips[0]._replace(start=0.0, end=float("inf")).frames(frames).tolist() == [*range(20)]
    with pytest.raises(ConveyorError, match=r"words\.csv:3: expected a start within the 20 frames of 0\.mp4, got 20"):
        clips[0]._replace(start=20.0, end=21.0).frames(frames)
    assert len(videos.read_clips([folder / "videos", folder / "words.csv"], (), BadRecords(False))) == 20


def test_no_video_is_in_two_parts(folder: Path) -> None:
    rows = "".join(f"{n}.mp4,{word}\n" for n in range(10) for word in ("a", "b", "c"))
    (folder / "words.csv").write_text(f"video,word\n{rows}")
    clips = videos.read_clips([folder], (), BadRecords(False))
    parts = videos.split(clips, 0.2, 0.1, 7)
    assert [len(part) for part in parts] == [21, 6, 3]
    assert sorted(clip.video for part in parts for clip in part) == sorted(clip.video for clip in clips)
    assert len(set.union(*({clip.video for clip in part} for part in parts))) == 10
    assert parts == videos.split(clips, 0.2, 0.1, 7)
    assert parts != videos.split(clips, 0.2, 0.1, 8)


def test_whole_videos_are_scored_where_there_are_such(folder: Path) -> None:
    (folder / "a.csv").write_text("video,caption\n" + "".join(f"{n}.mp4,one two\n" for n in range(10)))
    (folder / "b.csv").write_text("video,start_frame,end_frame,word\n3.mp4,0,4,one\n3.mp4,4,9,two\n")
    clips = videos.read_clips([folder], (), BadRecords(False))
    assert [clip.caption for clip in videos.scored(clips)] == ["one two"] * 10
    assert [clip.caption for clip in videos.scored(clips[10:])] == ["one", "two"]


def test_two_videos_of_a_name(folder: Path) -> None:
    (folder / "more").mkdir()
    (folder / "more" / "4.mp4").write_bytes(b"")
    (folder / "a.csv").write_text("video,caption\n4.mp4,bin\n")
    with pytest.raises(ConveyorError, match=r"4\.mp4: expected each video once, but .*4\.mp4 has its name; rename one"):
        videos.read_clips([folder], (), BadRecords(False))


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("77.mp4,0,5,bin", r":12: a caption of 77\.mp4, but no such video is there"),
        ("3.mp4,0,5,", r":12: expected a caption of 1 to 100 words, got 0"),
        ("3.mp4,x,5,bin", r":12: expected numbers of frames, but"),
        ("3.mp4,5,5,bin", r":12: expected a start before the end, got 5 and 5"),
    ],
)
def test_bad_rows(folder: Path, row: str, says: str) -> None:
    good = "".join(f"{n}.mp4,0,5,bin\n" for n in range(10))
    (folder / "words.csv").write_text(f"video,start_frame,end_frame,word\n{good}{row}\n")
    with pytest.raises(ConveyorError, match=says):
        videos.read_clips([folder], (), BadRecords(False))
    bad = BadRecords(True)
    assert len(videos.read_clips([folder], (), bad)) == 10
    assert bad.count == 1
