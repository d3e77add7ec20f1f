"""Protein structure: loss and scores by hand, profiles, ensembles, prediction and what is written of it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import polars
import pytest
import torch

import conveyor
from conveyor.data import proteins
from conveyor.data.batches import Batches
from conveyor.data.proteins import Chain
from conveyor.data.records import BadRecords
from conveyor.errors import ConveyorError
from conveyor.tasks import protein_structure as task
from conveyor.training import structure_picture as picture
from conveyor.training.fit import fit
from conveyor.training.options import ReadingOptions, TrainingOptions
from conveyor.training.scoring import score
from conveyor.training.segment_overlap import sov99
from conveyor.training.task import Model

FACTS = {"profiles": [], "eight": True}
CHAINS = [
    Chain("one", "ACDEF", "HHEC?", "HGECC"),
    Chain("two", "GH", "CC", ""),
    Chain("three", "IKL", "EEH", "BE?"),
]


def small(**options: object) -> task.Config:
    return task.Config(**{"hidden_size": 5, "filters": 7, "dropout_input": 0.0, **options})  # type: ignore[arg-type]


def with_frequencies(three: list[float], eight: list[float]) -> torch.nn.Module:
    """A network that gives every residue these probabilities."""
    network = task.network(small(), FACTS)
    with torch.no_grad():
        for output, p in ((network.three, three), (network.eight, eight)):
            assert output is not None
            output.weight.zero_()
            output.bias.copy_(torch.tensor(p).log())
    return network.eval()


THREE_P, EIGHT_P = [0.5, 0.2, 0.3], [0.4, 0.05, 0.05, 0.2, 0.1, 0.05, 0.05, 0.1]


def test_scores_by_hand() -> None:
    """All is called H: of nine known residues HHEC CC EEH three are right."""
    network = with_frequencies(THREE_P, EIGHT_P)
    scores = score(task, small(), network, task.batches(small(), CHAINS, FACTS))
    confusion = task.loss(small(), network, task.Collate(CHAINS, FACTS)([0, 2, 1]), None).sums["confusion"]
    assert torch.as_tensor(confusion).tolist() == [[3, 0, 0], [3, 0, 0], [3, 0, 0]]  # true by predicted
    nats = 3 * math.log(0.5) + 3 * math.log(0.2) + 3 * math.log(0.3)
    assert scores["loss"] == pytest.approx(-nats / 9, rel=1e-6)
    assert scores["q3"] == pytest.approx(100 * 3 / 9)
    assert scores["q3_chain"] == pytest.approx(100 * (2 / 4 + 0 / 2 + 1 / 3) / 3)
    assert scores["q8"] == pytest.approx(100 * 1 / 7)  # HGECC BE: one H
    # one: H in 2 of 4, stretched by nothing (δ = min(2, 2, 1, 2)): (2 + 1) / 4; two has none right; three 1/3
    one = (2 + 1) / 4 * 2 / (2 + 1 + 1)
    assert scores["sov99"] == pytest.approx(100 * (one + 0 + 1 / 3 * 1 / 3) / 3)


def test_loss_of_both_outputs() -> None:
    """Three states, and the weighted nats of eight where these are given, over the residues known in three."""
    network = with_frequencies(THREE_P, EIGHT_P)
    batch = task.Collate(CHAINS, FACTS)([0, 2, 1])
    three = -sum(math.log(THREE_P["HEC".index(state)]) for state in "HHECEEHCC")
    eight = -sum(math.log(EIGHT_P["HGIEBTSC".index(state)]) for state in "HGECCBE")
    for weight in (0.0, 0.7):
        outcome = task.loss(small(eight_weight=weight), network, batch, None)
        assert outcome.loss.item() == pytest.approx((three + weight * eight) / 9, rel=1e-6)
        assert outcome.weight == 9


def test_smoothing_is_for_training_alone() -> None:
    batch = task.Collate(CHAINS, FACTS)([0, 2, 1])
    network = with_frequencies(THREE_P, EIGHT_P)
    config = small(label_smoothing=0.3, eight_weight=0.0, dropout_output=0.0)
    plain, smoothed = (task.loss(config, network.train(mode), batch, None) for mode in (False, True))
    even = -sum(map(math.log, THREE_P)) / 3
    assert smoothed.loss.item() == pytest.approx(0.7 * plain.loss.item() + 0.3 * even, rel=1e-5)
    assert float(smoothed.sums["nats"]) == pytest.approx(float(plain.sums["nats"]), rel=1e-6)


def test_segment_overlap() -> None:
    """The two examples of Zemla et al.'s kind: one helix of nine found whole, moved, and broken."""
    true = "CCEEECCCCCCHHHHHHHHHCC"
    assert sov99(true, true, "HEC") == 1
    assert sov99("HHHHHHHHHH", "HHHHHHHHCC", "HEC") == pytest.approx((8 + 2) / 10)
    assert sov99("HHHHHHHHHH", "CHCHCHCHCH", "H") == pytest.approx(5 * (1 + 0) / 10 * 10 / 50)
    assert sov99("HHHH", "EEEE", "HEC") == 0
    assert sov99("??HHHH??", "??HHHH??", "HEC") == 1
    assert sov99("????", "????", "HEC") == 0


@pytest.mark.parametrize("convolutions", [0, 1, 3])
def test_padding_does_not_matter(convolutions: int) -> None:
    """A chain alone, or beside a longer one."""
    torch.manual_seed(2)
    network = task.network(small(convolutions=convolutions), FACTS).eval()
    long = Chain("long", "ACDEFGHIKLMNPQRSTVWY" * 3)
    collate = task.Collate([CHAINS[0], long], FACTS)
    alone, beside = (next(task.structures(network, collate, [*rows])) for rows in ([0], [0, 1]))
    assert np.abs(np.subtract(alone.probabilities, beside.probabilities)).max() < 1e-6


def test_profiles_are_read_and_noise_is_for_training_alone() -> None:
    profile = np.linspace(0, 1, 40, dtype=np.float32).reshape(2, 20)
    chain = Chain("two", "AY", profiles={"pssm": profile})
    x = task.features(chain, ["pssm"])
    assert x.shape == (2, 41)
    assert x[:, 21:] == pytest.approx(profile / 2.5)
    assert [row.argmax() for row in x[:, :21]] == [0, 19]
    facts = {"profiles": ["pssm"], "eight": False}
    batch = task.Collate([chain], facts)([0])
    config = small(profile_noise=1.0, dropout_input=0.0, dropout_between=0.0, dropout_output=0.0)
    network = task.network(config, facts)
    assert not torch.equal(network(batch.x, batch.lengths)[0], network(batch.x, batch.lengths)[0])
    network.eval()
    three, eight = network(batch.x, batch.lengths)
    assert torch.equal(three, network(batch.x, batch.lengths)[0])
    assert eight is None


def test_ensemble_is_the_mean_of_probabilities() -> None:
    torch.manual_seed(4)
    networks = [task.network(small(), FACTS).eval() for _ in range(3)]
    batch = task.Collate(CHAINS, FACTS)([0, 2, 1])
    for k in (0, 1):
        expected = torch.stack([n(batch.x, batch.lengths)[k].softmax(-1) for n in networks]).mean(0)
        got = task.ensemble(networks)(batch.x, batch.lengths)[k]
        assert (got.exp() - expected).abs().max() < 1e-6
    whole = score(task, small(), task.ensemble(networks).eval(), task.batches(small(), CHAINS, FACTS))
    assert whole["q3"] > 0


# From files


def write(folder: Path, chains: int = 40, **beside: str) -> Path:
    """A FASTA file of chains, half of A which are helix, half of V which are strand."""
    text = {"AAAAAVVVVVV": "HHHHHEEEEEE", "VVVVAAAAA": "EEEEHHHHH"}
    records = [(f"c{n}", *list(text.items())[n % 2]) for n in range(chains)]
    (folder / "a.fasta").write_text("".join(f">{name}\n{sequence}\n" for name, sequence, _ in records))
    (folder / "a.ss").write_text("".join(f">{name}\n{states}\n" for name, _, states in records))
    return folder / "a.fasta"


def options(file: Path, **reading: object) -> task.Config:
    training = TrainingOptions(batch_size=4, epochs=3, learning_rate=0.05, threads=1)
    given = ReadingOptions(data=(str(file),), **reading)  # type: ignore[arg-type]
    return small(dropout_between=0.0, dropout_output=0.0, reading=given, training=training)


def test_learns_predicts_and_writes(tmp_path: Path) -> None:
    run = tmp_path / "run"
    _, figures = fit(task, options(write(tmp_path)), run)
    assert figures["test"]["q3"] == 100
    assert "![c" in (run / "report.md").read_text()
    assert (run / "structure.png").read_bytes().startswith(b"\x89PNG")
    model = conveyor.load(run)
    (tmp_path / "new.fa").write_text(">x\nAAAAAVVVVVV\n>y\nVVVVAAAAA\n")
    results = model.predict(str(tmp_path / "new.fa"), "vvvvvaaaa")
    assert [result.name for result in results] == ["x", "y", "sequence"]
    assert [result.ss3 for result in results] == ["HHHHHEEEEEE", "EEEEHHHHH", "EEEEEHHHH"]
    assert results[0].confidence == [max(p) for p in results[0].probabilities]
    assert "pred: HHHHHEEEEEE\n  aa: AAAAAVVVVVV\n              10" in str(results[0])
    check_files(results, tmp_path)


def check_files(results: list[task.Structure], folder: Path) -> None:
    for name in ("out.csv", "out.json", "out.ss3", "out.fasta", "out.txt"):
        task.save(results, folder / name)
    rows = polars.read_csv(folder / "out.csv")
    assert rows.shape == (29, 9)
    assert "".join(rows.filter(polars.col("name") == "y")["state"]) == "EEEEHHHHH"
    assert rows["helix"].to_numpy() + rows["strand"].to_numpy() + rows["coil"].to_numpy() == pytest.approx(1, abs=2e-4)
    assert json.loads((folder / "out.json").read_text())[1]["ss3"] == "EEEEHHHHH"
    assert (folder / "out.ss3").read_text().startswith(">x\nHHHHHEEEEEE\n>y\n")
    again = proteins.read([folder / "out.fasta"], BadRecords(False))
    assert [(chain.name, chain.ss8) for chain in again] == [(result.name, result.ss3) for result in results]
    assert (folder / "out.txt").read_text() == "\n".join(map(str, results))


def test_reading_options(tmp_path: Path) -> None:
    data = task.read(options(write(tmp_path), valid_share=0.2, test_share=0.3))
    assert data.summary.startswith("20 + 8 + 12 chains to train, validate, test; 400 residues; reading sequence")
    limited = task.read(options(tmp_path / "a.fasta", limit=5))
    assert limited.summary.startswith("5 + 4 + 4 chains")
    with (tmp_path / "a.fasta").open("a") as file:
        file.write(">bad\nAC-\n")
    skipped = task.read(options(tmp_path / "a.fasta", skip_bad=True))
    assert "1 bad records left out, the first: [proteins]" in skipped.summary
    with pytest.raises(ConveyorError, match="not those this run was trained on"):
        task.read(options(tmp_path / "a.fasta", limit=6, skip_bad=True), limited.facts)
    with pytest.raises(ConveyorError, match="no chains to learn from"):
        task.read(small())


def test_structure_or_profile_missing(tmp_path: Path) -> None:
    """Of a chain without structure nothing can be learned; and where one has a profile all have to have it."""
    file = write(tmp_path)
    (tmp_path / "c3.hmm").write_text(f"{' '.join(['0.25'] * 24)}\n" * 9)
    with pytest.raises(
        ConveyorError, match=r"a.fasta, line 1: c0: expected the profiles jnet, but there is no jnet; .*--profiles none"
    ):
        task.read(options(file))
    config = options(file)
    config.profiles = "none"
    assert task.read(config).facts["profiles"] == []
    (tmp_path / "a.ss").unlink()
    with pytest.raises(ConveyorError, match=r"a\.fasta, line 1: c0: no structure to learn from"):
        task.read(config)


def test_prediction_asks_for_what_training_had(tmp_path: Path) -> None:
    facts = {"profiles": ["pssm"], "eight": False}
    model = Model(task, small(), facts, task.network(small(), facts).eval())
    with pytest.raises(ConveyorError, match=r"sequence: expected the profiles pssm, but there is no pssm"):
        model.predict("ACDE")
    (tmp_path / "a.fa").write_text(">a\nAC\n")
    (tmp_path / "a.pssm").write_text(f"{' '.join(['0'] * 20)}\n" * 2)
    [result] = model.predict(f"{tmp_path}/a.fa")
    assert len(result.ss3) == 2
    assert result.ss8 == ""
    (tmp_path / "b.fa").write_text(">a\nAC\n>b\nA1\n>c\nAC\n")
    [result] = model.predict(f"{tmp_path}/b.fa", skip_bad=True)  # b is no sequence, c has no profile
    assert result.name == "a"
    with pytest.raises(ConveyorError, match=r"residue 3 is '1'"):
        model.predict("AC1")
    with pytest.raises(ConveyorError, match="no such file"):
        model.predict("none.fa")


@pytest.mark.parametrize("kinds", [None, "pssm", ["psm"], [["pssm"]], [3]])
def test_damaged_facts(kinds: object) -> None:
    with pytest.raises(ConveyorError, match=r"profiles: expected a list of pssm, hhm, hmm, jnet"):
        task.network(small(), {"profiles": kinds})


def test_options_that_do_not_fit() -> None:
    with pytest.raises(ConveyorError, match=r"--window: expected an odd number"):
        small(window=4)
    with pytest.raises(ConveyorError, match="did you mean peephole"):
        small(variant="peepholes")


def test_processes_share_a_batch() -> None:
    """The sums of two shares are those of the whole."""
    network = with_frequencies(THREE_P, EIGHT_P)
    whole = task.batches(small(), CHAINS, FACTS)
    losses = [task.loss(small(), network, part.batch(0, 0), None) for part in (whole, *halves(whole))]
    weighted = sum(o.loss * o.weight for o in losses[1:]) / losses[0].weight
    assert weighted.item() == pytest.approx(losses[0].loss.item(), rel=1e-6)
    assert sum(o.sums["sov"] for o in losses[1:]) == pytest.approx(losses[0].sums["sov"])


def halves(whole: Batches) -> list[Batches]:
    return [whole.share(index, 2) for index in range(2)]


def test_picture_of_every_length(tmp_path: Path) -> None:
    assert [*picture.segments("HHEC")] == [("H", 0, 2), ("E", 2, 3), ("C", 3, 4)]
    for T in (1, 60, 61):
        true = ("HHEEC?" * 20)[:T]
        picture.draw(tmp_path / "a.png", "a", "A" * T, true, true.replace("?", "C"), [0.5] * T)
        assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_jpred_is_learned(conveyor_data: Path, tmp_path: Path) -> None:
    """A minute's worth of the real set beats what the commonest state alone gives, by far."""
    training = TrainingOptions(batch_size=8, epochs=3, learning_rate=0.01, threads=1)
    reading = ReadingOptions(data=(f"{conveyor_data}/jpred",), limit=120)
    config = task.Config(hidden_size=24, layers=1, dropout_output=0.2, reading=reading, training=training)
    _, figures = fit(task, config, tmp_path / "run")
    assert figures["test"]["q3"] > 70
