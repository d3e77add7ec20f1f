"""Polyphonic music: scores by hand, learning, continuing, several networks as one, bad input."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest
import torch
from torch import Tensor

import conveyor
from conveyor.data import midi
from conveyor.data.midi import KEYS, LOWEST, Roll
from conveyor.data.piano_rolls import batches
from conveyor.data.records import BadRecords
from conveyor.errors import ConveyorError
from conveyor.tasks import music as task
from conveyor.training.fit import fit
from conveyor.training.options import ReadingOptions, TrainingOptions
from conveyor.training.scoring import add, numbers, score, sums_over
from conveyor.training.task import Model
from conveyor.variant import VARIANTS, variant_named

HEADS = ["independent", "nade"]


def small(**options: Any) -> task.Config:
    return task.Config(**({"hidden_size": 6, "nade_size": 5} | options))


def drawn(length: int, seed: int = 0, share: float = 0.06) -> np.ndarray:
    return (np.random.default_rng(seed).random((length, KEYS)) < share).astype(np.uint8)


def network(head: str = "nade", seed: int = 1, **options: Any) -> task.Network:
    torch.manual_seed(seed)
    return task.network(small(head=head, **options), {}).eval()


def scale(key: int, length: int = 12) -> np.ndarray:
    """Up and down four neighbouring keys, one a frame."""
    frames = np.zeros((length, KEYS), np.uint8)
    frames[np.arange(length), key + np.array([0, 1, 2, 3, 2, 1])[np.arange(length) % 6]] = 1
    return frames


def folder(path: Path, pieces: list[np.ndarray]) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for number, piece in enumerate(pieces):
        (path / f"{number:02}.mid").write_bytes(midi.write([Roll(piece, 100.0)], ["x"], 4))
    return path


# Loss and scores


def test_scores_by_hand() -> None:
    """A network that gives every key its probability, whatever came before."""
    p = torch.linspace(0.1, 0.9, KEYS)
    net = network("independent")
    with torch.no_grad():
        net.biases.weight.zero_()
        net.biases.bias.copy_(p.logit())
    pieces = [drawn(n, n, 0.5) for n in (2, 5, 3)]
    figures = score(task, small(head="independent"), net, batches(pieces, 2))
    nats = [-(torch.where(torch.tensor(x) > 0, p, 1 - p)).double().log().sum(1).numpy() for x in pieces]
    assert figures["loss"] == pytest.approx(sum(n[1:].sum() for n in nats) / 7, rel=1e-6)
    assert figures["loss_with_first"] == pytest.approx(sum(n.sum() for n in nats) / 10, rel=1e-6)
    said = (p > 0.5).numpy()
    later = np.concatenate([x[1:] for x in pieces]) > 0
    assert figures["accuracy"] == pytest.approx((later & said).sum() / (later | said).sum(), rel=1e-6)
    assert next(iter(figures)) == "loss"


@pytest.mark.parametrize("head", HEADS)
def test_scores_do_not_depend_on_the_batch(head: str) -> None:
    """Pieces of unequal length, one by one or side by side."""
    pieces = [drawn(n, n) for n in (9, 2, 14, 6, 3)]
    alone, together = (score(task, small(), network(head), batches(pieces, size)) for size in (1, 5))
    assert together == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_a_frame_is_predicted_from_those_before_it(head: str) -> None:
    """A change in frame 3 leaves what is said of the frames up to it, but not what is said of those behind."""
    net, piece = network(head), torch.from_numpy(drawn(8)).float()
    changed = piece.clone()
    changed[3] = 1 - changed[3]
    one, other = (task.probabilities(net, frames) for frames in (piece, changed))
    assert torch.equal(one[:3], other[:3])
    assert torch.equal(one[3, 0], other[3, 0])  # nothing is below the lowest key
    assert torch.equal(one[3], other[3]) == (head == "independent")
    assert (one[4] != other[4]).any()


def test_the_loss_is_a_mean_over_all_frames() -> None:
    """Of a batch as of its pieces, so that processes may share it."""
    pieces = [drawn(n, n) for n in (4, 9)]
    net, both = network(), batches(pieces, 2).batch(0, 0)
    each = [task.loss(small(), net, batches([piece], 1).batch(0, 0), None) for piece in pieces]
    outcome = task.loss(small(), net, both, None)
    assert outcome.weight == 13
    assert outcome.loss.item() == pytest.approx(sum(e.loss.item() * e.weight for e in each) / 13, rel=1e-6)


def test_processes_share_the_batches() -> None:
    """What two processes count together is what one counts."""
    split, net = batches([drawn(n, n) for n in (4, 9, 5, 7, 3, 6)], 3), network()
    shares = [sums_over(task, small(), net, split.share(index, 2)) for index in (0, 1)]
    together, whole = numbers(task, add(*shares)), score(task, small(), net, split)
    assert together == pytest.approx(whole, rel=1e-6)


def test_transposition_is_for_training_alone() -> None:
    config, net = small(transpose=6), network()
    batch = batches([drawn(9, share=0.02)], 1).batch(0, 0)
    losses = {task.loss(config, net, batch, None).loss.item() for _ in range(5)}
    net.train()
    assert len(losses) == 1
    assert len({task.loss(config, net, batch, None).loss.item() for _ in range(5)}) > 1


def test_dropout_is_where_the_options_say() -> None:
    """Each share by itself makes training, and training alone, random."""
    batch = batches([drawn(30, share=0.3)], 1).batch(0, 0)
    for name in ("input", "between", "recurrent", "output", "nade"):
        config = small(layers=2, **{f"dropout_{name}": 0.5})
        net = task.network(config, {})
        assert len({task.loss(config, net, batch, None).loss.item() for _ in range(4)}) > 1, name
        net.eval()
        assert len({task.loss(config, net, batch, None).loss.item() for _ in range(4)}) == 1, name


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_reads_and_composes(variant: str) -> None:
    """The options leave a variant as it is, its dropout too; composing frame by frame carries its state."""
    net = network(variant=variant)
    assert net.lstm.variant == variant_named(variant)
    frames = drawn(5)
    composed = task.compose(net, frames, 2, 0.0, torch.Generator())
    whole = torch.from_numpy(np.concatenate([frames, composed])).float()
    assert torch.equal((task.probabilities(net, whole)[5:] > 0.5).float(), whole[5:])


# Learning and continuing


@pytest.mark.parametrize("head", HEADS)
def test_learns_a_scale(tmp_path: Path, head: str) -> None:
    """Two of them: what follows is certain but for the first frame. Then loss, accuracy, and how a piece goes on."""
    pieces = [scale(20 + 7 * (n % 2)) for n in range(30)]
    reading = ReadingOptions(data=(str(folder(tmp_path / "music", pieces)),), valid_share=0.2, test_share=0.2)
    training = TrainingOptions(batch_size=2, epochs=20, learning_rate=0.05, threads=1, schedule="cosine")
    config = task.Config(hidden_size=32, nade_size=16, head=head, reading=reading, training=training)
    model, figures = fit(task, config, tmp_path / "run")
    assert figures["test"]["loss"] < 0.3
    assert figures["test"]["accuracy"] > 0.9
    (tmp_path / "a.mid").write_bytes(midi.write([Roll(scale(27), 80.0)], ["x"], 4))
    [result] = conveyor.load(tmp_path / "run").predict(str(tmp_path / "a.mid"), given=6, length=6, temperature=0)
    assert np.array_equal(result.roll.frames, scale(27))
    assert result.given == 6
    assert result.roll.tempo == pytest.approx(80, rel=1e-5)
    assert "piano-roll.png" in (tmp_path / "run" / "report.md").read_text()
    assert (tmp_path / "run" / "piano-roll.png").read_bytes().startswith(b"\x89PNG")
    composed = midi.read(tmp_path / "run" / "composed.mid", 4)
    assert len(composed.frames) > 6
    split = model.task.read_test(model.config, model.facts, [str(tmp_path / "a.mid")], BadRecords(False))
    assert split.lengths.tolist() == [12]


def with_certain(head: str, keys: list[int]) -> Model:
    """A model that always goes on with these keys."""
    net = network(head)
    with torch.no_grad():
        for weight in net.parameters():
            weight.zero_()
        net.biases.bias[:KEYS] = -20.0
        net.biases.bias[keys] = 20.0
    return Model(task, small(head=head), {}, net)


@pytest.mark.parametrize("head", HEADS)
def test_continues_and_saves(tmp_path: Path, head: str) -> None:
    """A beginning cut short, and a piece out of nothing, in one file that plays."""
    (tmp_path / "a.mid").write_bytes(midi.write([Roll(scale(30, 8), 90.0)], ["x"], 4))
    model = with_certain(head, [10, 50])
    results = model.predict(tmp_path / "a.mid", "-", length=4, given=2)
    chord = np.zeros((4, KEYS), np.uint8)
    chord[:, [10, 50]] = 1
    assert np.array_equal(results[0].roll.frames, np.concatenate([scale(30, 2), chord]))
    assert np.array_equal(results[1].roll.frames, chord)
    assert [result.given for result in results] == [2, 0]
    task.save(results, tmp_path / "out.mid")
    file = mido.MidiFile(tmp_path / "out.mid")
    assert [track.name for track in file.tracks[1:]] == [str(tmp_path / "a.mid"), "-"]
    frames = midi.read(tmp_path / "out.mid", 4).frames
    assert np.array_equal(frames, np.concatenate([results[0].roll.frames, np.zeros((16, KEYS)), chord]))
    task.save(results, tmp_path / "out.json")
    [one, other] = json.loads((tmp_path / "out.json").read_text())
    assert one["frames"] == [[30 + LOWEST], [31 + LOWEST], *([[10 + LOWEST, 50 + LOWEST]] * 4)]
    assert (one["given"], other["given"], one["tempo"], other["tempo"]) == (2, 0, pytest.approx(90, rel=1e-5), 120)


def test_the_text_of_a_continuation() -> None:
    frames = np.zeros((5, KEYS), np.uint8)
    frames[0, 39] = frames[2:4, 41] = frames[4, 39] = 1
    lines = str(task.Continuation("a.mid", 3, Roll(frames, 120.0), 4)).splitlines()
    assert lines == ["a.mid: 3 frames given, 2 composed", "  D4 ··░█·", " C#4 ·····", "  C4 ░···█"]
    silent = task.Continuation("-", 0, Roll(frames[:0], 120.0), 4)
    assert str(silent) == "-: 0 frames given, 0 composed"


def test_same_seed_same_music() -> None:
    model = Model(task, small(), {}, network())
    one, two, other = (model.predict("-", length=5, seed=seed)[0].roll.frames for seed in (1, 1, 2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)
    twice = model.predict("-", "-", length=5)
    assert np.array_equal(twice[0].roll.frames, one)
    assert not np.array_equal(twice[1].roll.frames, one)


def test_composing_follows_the_probabilities() -> None:
    """The first frame, drawn 400 times: independent keys sound as often as they should, colder ones go to extremes."""
    net = network("independent")
    p = torch.linspace(0.02, 0.98, KEYS)
    with torch.no_grad():
        net.biases.weight.zero_()
        net.biases.bias.copy_(p.logit())

    def share(temperature: float) -> np.ndarray:
        generator = torch.Generator().manual_seed(0)
        frames = task.compose(net, drawn(1), 400, temperature, generator)
        assert isinstance(frames, np.ndarray)
        return frames.mean(0)

    assert share(1.0) == pytest.approx(p.numpy(), abs=0.1)
    assert share(0.5) == pytest.approx((2 * p.logit()).sigmoid().numpy(), abs=0.1)
    assert np.array_equal(share(0), (p > 0.5).float().numpy())


# Several networks as one


@pytest.mark.parametrize("head", HEADS)
def test_an_ensemble_has_the_mean_probabilities(head: str) -> None:
    networks = [network(head, seed) for seed in (1, 2, 3)]
    together = task.ensemble(networks).eval()
    piece = torch.from_numpy(drawn(7)).float()
    want = torch.stack([task.probabilities(net, piece) for net in networks]).mean(0)
    assert task.probabilities(together, piece).numpy() == pytest.approx(want.numpy(), abs=1e-6)
    split = batches([drawn(n, n) for n in (4, 9)], 2)
    whole = score(task, small(), together, split)
    assert whole["loss"] < np.mean([score(task, small(), net, split)["loss"] for net in networks])
    alike = score(task, small(), task.ensemble(networks[:1] * 2).eval(), split)
    assert alike == pytest.approx(score(task, small(), networks[0], split), rel=1e-6)
    [result] = Model(task, small(), {}, together).predict("-", length=5)
    assert len(result.roll.frames) == 5


def test_an_ensemble_composes_as_it_scores() -> None:
    """Its state is carried from frame to frame: the likelier keys are those of the whole piece read at once."""
    together = task.ensemble([network("nade", seed) for seed in (1, 2)]).eval()
    given = drawn(6)
    composed = task.compose(together, given, 3, 0.0, torch.Generator())
    frames: Tensor = torch.from_numpy(np.concatenate([given, composed])).float()
    assert torch.equal((task.probabilities(together, frames)[6:] > 0.5).float(), frames[6:])


# Bad input


def config_for(data: Path, **options: Any) -> task.Config:
    return small(reading=ReadingOptions(data=(str(data),), **options))


def test_options_that_do_not_go_together() -> None:
    with pytest.raises(ConveyorError, match="did you mean peephole"):
        small(variant="peepholes")
    with pytest.raises(ConveyorError, match="--dropout-between: expected --layers 2 or more"):
        small(dropout_between=0.5)
    with pytest.raises(ConveyorError, match="--sequence-length: expected 3 or more, got 2"):
        small(sequence_length=2)
    with pytest.raises(ConveyorError, match="--valid-share and --test-share"):
        small(reading=ReadingOptions(valid_share=0.5, test_share=0.5))


def test_no_data_or_too_little(tmp_path: Path) -> None:
    with pytest.raises(ConveyorError, match="expected music, got none; give --data"):
        task.read(small())
    with pytest.raises(ConveyorError, match="the valid part has no piece; give more, or other shares"):
        task.read(config_for(folder(tmp_path, [scale(1), scale(2)])))


def test_bad_pieces_are_counted(tmp_path: Path) -> None:
    data = folder(tmp_path, [scale(n) for n in range(20)])
    (data / "07.mid").write_bytes(b"MThd")
    with pytest.raises(ConveyorError, match=r"07.mid: expected MIDI, but .*--skip-bad"):
        task.read(config_for(data))
    summary = task.read(config_for(data, skip_bad=True)).summary
    assert "15 + 2 + 2 pieces, 180 + 24 + 24 frames" in summary
    assert "1 bad records left out, the first: [midi]" in summary
    assert task.read(config_for(data, skip_bad=True, limit=2)).summary.startswith("2 + 2 + 2 pieces")


def test_music_that_changed_is_refused(tmp_path: Path) -> None:
    config = config_for(folder(tmp_path, [scale(n) for n in range(20)]))
    facts = task.read(config).facts
    assert task.read(config, facts).facts == facts
    folder(tmp_path, [scale(50)])
    with pytest.raises(ConveyorError, match="not that which this run was trained on"):
        task.read(config, facts)
    with pytest.raises(ConveyorError, match="not that which this run was trained on"):
        task.read(config, {})


def test_nothing_to_continue(tmp_path: Path) -> None:
    model = Model(task, small(), {}, network())
    with pytest.raises(ConveyorError, match=r"none.mid: no such file or folder that may be read; check the path$"):
        model.predict(str(tmp_path / "none.mid"))
    drums = mido.MidiFile()
    drums.tracks.append(mido.MidiTrack([mido.Message("note_on", note=40, channel=9)]))
    drums.save(tmp_path / "drums.mid")
    with pytest.raises(ConveyorError, match=r"drums.mid: expected notes, got none but perhaps drums"):
        model.predict(str(tmp_path / "drums.mid"))
    assert [one.name for one in model.predict(str(tmp_path / "drums.mid"), "-", length=2, skip_bad=True)] == ["-"]
    with pytest.raises(ConveyorError, match=r"nothing left to predict from, 1 bad records left out, .*drums.mid"):
        model.predict(str(tmp_path), skip_bad=True)


def test_jsb_chorales_in_seconds(conveyor_data: Path, tmp_path: Path) -> None:
    """A few epochs on chorales are already better than the frequencies of the keys, which give about 12."""
    pytest.importorskip("scipy")
    reading = ReadingOptions(data=(str(conveyor_data / "poly_music" / "JSB_Chorales.mat"),), limit=80)
    training = TrainingOptions(batch_size=4, epochs=4, learning_rate=0.01, threads=1)
    config = task.Config(transpose=6, steps_per_beat=1, hidden_size=64, reading=reading, training=training)
    _, figures = fit(task, config, tmp_path / "run")
    assert figures["best_valid"] < 10.5
    assert math.isfinite(figures["test"]["loss"])
    content = (tmp_path / "run" / "composed.mid").read_bytes()
    assert mido.MidiFile(file=io.BytesIO(content)).length > 10
