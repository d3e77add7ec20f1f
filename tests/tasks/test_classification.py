"""Classification: pooling, loss and scores by hand; learning; predictions; Japanese Vowels."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import conveyor
from conveyor.cli import main
from conveyor.data.encoding import Batch
from conveyor.data.records import BadRecords
from conveyor.errors import ConveyorError
from conveyor.tasks import classification as task
from conveyor.training.fit import fit
from conveyor.training.options import ReadingOptions, TrainingOptions
from conveyor.training.scoring import score
from conveyor.training.task import Model

FACTS = {
    "kind": "series",
    "classes": ["p", "q", "r"],
    "channels": ["x", "y"],
    "mean": [1.0, 0.0],
    "deviation": [2.0, 1.0],
}
LENGTHS = [7, 4, 1]


def batch(labels: tuple[int, ...] = (0, 1, 2)) -> Batch:
    """Rows of unequal lengths; behind their ends stands what must not count."""
    inputs = torch.randn(7, 3, 2, generator=torch.Generator().manual_seed(1))
    for b, T in enumerate(LENGTHS):
        inputs[T:, b] = 0
    return Batch(inputs, torch.tensor(LENGTHS), torch.tensor(labels))


def network(**options: Any) -> torch.nn.Module:
    torch.manual_seed(2)
    return task.network(task.Config(hidden_size=5, **options), FACTS).eval()


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("pooling", ["mean", "max", "last", "attention"])
def test_pooling_by_hand(pooling: str, bidirectional: bool, layers: int) -> None:
    """Each row alone, cut at its end, through torch's own layer and the pooling's equation."""
    net = network(pooling=pooling, bidirectional=bidirectional, layers=layers)
    inputs, lengths, _ = batch()
    lstm = torch.nn.LSTM(2, 5, layers, bidirectional=bidirectional)
    lstm.load_state_dict(net.lstm.state_dict())
    logits = net(inputs, lengths)
    for b, T in enumerate(LENGTHS):
        h, _ = lstm(inputs[:T, b])
        if pooling == "mean":
            pooled = h.mean(0)
        elif pooling == "max":
            pooled = h.max(0).values
        elif pooling == "last":
            pooled = torch.cat([h[-1, :5], h[0, 5:]])
        else:
            score = net.pooling.score(torch.tanh(net.pooling.hidden(h)))
            a = torch.exp(score[:, 0])
            pooled = (a / a.sum()) @ h
        torch.testing.assert_close(logits[b], net.output(pooled), rtol=1e-5, atol=1e-6)


def test_loss_and_scores_by_hand() -> None:
    """Logits that depend on nothing: the mean of -log p, and what is taken for what."""
    net = network()
    p = [0.5, 0.3, 0.2]
    with torch.no_grad():
        net.output.weight.zero_()
        net.output.bias.copy_(torch.tensor(p).log())
    outcome = task.loss(task.Config(), net, batch((0, 0, 2)), None)
    nats = -(2 * math.log(0.5) + math.log(0.2))
    assert outcome.loss.item() == pytest.approx(nats / 3, rel=1e-6)
    assert outcome.weight == 3
    assert outcome.sums["confusion"].tolist() == [[2, 0, 0], [0, 0, 0], [1, 0, 0]]
    scores = task.scores({name: value if name == "confusion" else float(value) for name, value in outcome.sums.items()})
    assert list(scores) == ["loss", "accuracy", "macro_f1"]
    assert list(scores.values()) == pytest.approx([nats / 3, 2 / 3, (4 / 5 + 0) / 2], rel=1e-6)


def test_smoothing_is_for_training_alone() -> None:
    """Smoothed by s: (1 - s) -log p_k + s mean -log p."""
    net, config = network(dropout_output=0.0), task.Config(label_smoothing=0.3)
    log_p = net(*batch()[:2]).log_softmax(1)
    hard = -log_p.diagonal().mean().item()
    assert task.loss(config, net, batch(), None).loss.item() == pytest.approx(hard, rel=1e-5)
    trained = task.loss(config, net.train(), batch(), None)
    assert trained.loss.item() == pytest.approx(0.7 * hard - 0.3 * log_p.mean().item(), rel=1e-5)
    assert trained.sums["nats"].item() == pytest.approx(3 * hard, rel=1e-5)


def test_noise_is_for_training_alone() -> None:
    net = network(noise=0.5, dropout_output=0.0)
    one, two = (net(*batch()[:2]) for _ in range(2))
    assert torch.equal(one, two)
    one, two = (net.train()(*batch()[:2]) for _ in range(2))
    assert not torch.equal(one, two)


def test_an_ensemble_is_the_mean_of_probabilities() -> None:
    nets = [network(), network(pooling="max"), network(bidirectional=False)]
    together = task.ensemble(nets)(*batch()[:2])
    mean = sum(net(*batch()[:2]).softmax(1) for net in nets) / 3
    torch.testing.assert_close(together.exp(), mean)
    assert task.loss(task.Config(), task.ensemble(nets), batch(), None).loss.item() == pytest.approx(
        -mean.diagonal().log().mean().item(), rel=1e-5
    )


def waves(folder: Path, parts: tuple[str, ...] = ("train", "test")) -> Path:
    """Three shapes in two channels, of unequal lengths, as .ts files."""
    folder = folder / "data"
    folder.mkdir()
    random = np.random.default_rng(7)
    for part in parts:
        lines = ["@dimensions 2", "@classLabel true rise fall hill", "@data"]
        for n in range(60):
            T = random.integers(6, 15)
            t = np.linspace(-1, 1, T)
            shape = (t, -t, 1 - 2 * t**2)[n % 3] + random.normal(0, 0.15, T)
            cells = (",".join(f"{x:.4f}" for x in row) for row in (shape, random.normal(0, 1, T)))
            lines.append(f"{':'.join(cells)}:{('rise', 'fall', 'hill')[n % 3]}")
        (folder / f"waves_{part}.ts").write_text("\n".join(lines) + "\n")
    return folder


def config(data: Path, **options: Any) -> task.Config:
    training = TrainingOptions(batch_size=8, epochs=12, learning_rate=0.02, threads=1)
    return task.Config(hidden_size=12, reading=ReadingOptions(data=(str(data),)), training=training, **options)


def test_learns_waves_and_predicts(tmp_path: Path) -> None:
    """From files to scores, report, evaluation, and predictions in every form."""
    data = waves(tmp_path)
    asked = config(data)
    model, figures = fit(task, asked, tmp_path / "run")
    assert figures["test"]["accuracy"] > 0.95
    assert figures["test"]["macro_f1"] > 0.95
    report = (tmp_path / "run" / "report.md").read_text()
    assert "![Confusion matrix](confusion.png)" in report
    assert "| hill | 20 |" in report
    assert (tmp_path / "run" / "confusion.png").stat().st_size > 5000
    model = conveyor.load(tmp_path / "run")
    split = task.read_test(model.config, model.facts, [str(data)], BadRecords(False))
    assert score(task, model.config, model.network, split) == pytest.approx(figures["test"])
    [from_file] = model.predict(data / "waves_test.ts")
    truth = [("rise", "fall", "hill")[n % 3] for n in range(60)]
    right = np.mean([label == true for label, true in zip(from_file.labels, truth, strict=True)])
    assert right == pytest.approx(figures["test"]["accuracy"])
    [rise, fall] = model.predict(np.c_[np.linspace(-1, 1, 9), np.zeros(9)], np.c_[np.linspace(1, -1, 30), np.zeros(30)])
    assert (rise.labels, fall.labels) == (["rise"], ["fall"])
    assert str(rise).startswith("sequence: rise 9")
    check_saved(from_file, tmp_path)


def check_saved(result: task.Classes, folder: Path) -> None:
    """All formats hold the same: a row a sequence, its class, and a column a class."""
    for name in ("p.csv", "p.parquet", "p.json", "p.tsv", "p"):
        task.save([result, result], folder / name)
    tables = [
        pl.read_csv(folder / "p.csv"),
        pl.read_parquet(folder / "p.parquet"),
        pl.DataFrame(json.loads((folder / "p.json").read_text())),
        pl.read_csv(folder / "p.tsv", separator="\t"),
        pl.read_csv(folder / "p"),
    ]
    for table in tables:
        assert table.columns == ["id", "label", "p_rise", "p_fall", "p_hill"]
        assert len(table) == 120
        assert table["label"].to_list() == result.labels * 2
        columns = table.select("p_rise", "p_fall", "p_hill").to_numpy()
        np.testing.assert_allclose(columns[60:], result.probabilities, rtol=1e-6)
        np.testing.assert_allclose(columns.sum(1), 1, rtol=1e-6)


def test_a_prediction_does_not_depend_on_its_company() -> None:
    """Many sequences at once, in any order, or one alone: the same probabilities, each under its own name."""
    asked = task.Config(hidden_size=5, training=TrainingOptions(batch_size=4))
    torch.manual_seed(3)
    model = Model(task, asked, FACTS, task.network(asked, FACTS).eval())
    random = np.random.default_rng(0)
    sequences = [random.normal(size=(T, 2)).astype(np.float32) for T in (3, 9, 1, 5, 9, 2)]
    records = [task.Record(str(n), "", None, values) for n, values in enumerate(sequences)]
    together = task._classes(model, task.encoder_of(asked, FACTS), records, 3)
    alone = np.concatenate([one.probabilities for one in model.predict(*sequences)])
    np.testing.assert_allclose(together.probabilities, alone, rtol=1e-5)
    assert together.names == ["0", "1", "2", "3", "4", "5"]


def test_learns_texts(tmp_path: Path) -> None:
    words = {"glad": ["good", "fine", "great"], "cross": ["bad", "poor", "awful"]}
    random = np.random.default_rng(0)
    rows = ["text,label"]
    for n in range(80):
        label = ("glad", "cross")[n % 2]
        said = ["it", "was", "so", "very", random.choice(words[label]), "to", "me"][random.integers(0, 4) :]
        rows.append(f"{' '.join(said)},{label}")
    (tmp_path / "texts.csv").write_text("\n".join(rows))
    asked = config(tmp_path / "texts.csv", embedding_size=8, pooling="attention")
    model, figures = fit(task, asked, tmp_path / "run")
    assert figures["test"]["accuracy"] > 0.95
    one, two = conveyor.load(tmp_path / "run").predict("so awful", "it was great unheard")
    assert (one.labels, two.labels) == (["cross"], ["glad"])
    assert two.probabilities.sum() == pytest.approx(1)
    (tmp_path / "new.tsv").write_text("id\ttext\n7\tgreat\n8\tpoor\n")
    [both] = model.predict(str(tmp_path / "new.tsv"))
    assert (both.names, both.labels) == (["7", "8"], ["glad", "cross"])


def test_the_validation_part_is_not_trained_on(tmp_path: Path) -> None:
    """60 sequences: 54 train and 6 validate; without a share all train, and choose; the limit is of each part."""
    data = task.read(config(waves(tmp_path)))
    assert [len(split.lengths) for split in data[:3]] == [54, 6, 60]
    asked = config(tmp_path / "data")
    asked.reading.valid_share = 0
    data = task.read(asked)
    assert [len(split.lengths) for split in data[:3]] == [60, 60, 60]
    asked.reading.limit = 9
    data = task.read(asked)
    assert [len(split.lengths) for split in data[:3]] == [9, 9, 9]


def test_scales_are_those_of_the_training_part(tmp_path: Path) -> None:
    data = task.read(config(waves(tmp_path)))
    steps = torch.cat(
        [b.inputs[:T, n] for i in range(7) for b in [data.train.batch(0, i)] for n, T in enumerate(b.lengths)]
    )
    assert steps.mean(0).tolist() == pytest.approx([0, 0], abs=1e-5)
    assert steps.std(0, correction=0).tolist() == pytest.approx([1, 1], rel=1e-5)


def test_data_that_changed_are_refused(tmp_path: Path) -> None:
    asked = config(waves(tmp_path))
    facts = task.read(asked).facts
    assert task.read(asked, facts).facts == facts
    file = tmp_path / "data" / "waves_train.ts"
    file.write_text(file.read_text().replace("0.1", "0.2"))
    with pytest.raises(ConveyorError, match="not the data this run was trained on"):
        task.read(asked, facts)


def test_skipped_records_are_told(tmp_path: Path) -> None:
    file = waves(tmp_path) / "waves_train.ts"
    file.write_text(file.read_text() + "1,?:2,3:rise\n")
    with pytest.raises(ConveyorError, match=r"waves_train\.ts, line 64, channel 1, step 2: .*--skip-bad"):
        task.read(config(file.parent))
    asked = config(file.parent)
    asked.reading.skip_bad = True
    assert "1 bad records left out, the first: [data] " in task.read(asked).summary


def test_mistakes_in_prediction(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = Model(task, task.Config(hidden_size=5), FACTS, network())
    for values, shape in ((np.zeros((3, 4)), r"\[3, 4\]"), (np.zeros((0, 2)), r"\[0, 2\]"), (np.ones(3), r"\[3, 1\]")):
        with pytest.raises(ConveyorError, match=rf"expected values \[T, 2\], all of them numbers, got {shape}"):
            model.predict(values)
    with pytest.raises(ConveyorError, match=r"expected values \[T, 2\], all of them numbers"):
        model.predict(np.full((3, 2), np.nan))
    with pytest.raises(ConveyorError, match=r"expected a file, or values \[T, 2\] \("):
        model.predict([[1, 2], [3]])
    with pytest.raises(ConveyorError, match=r"nowhere\.csv: no such file"):
        model.predict(f"{tmp_path}/nowhere.csv")
    (tmp_path / "a.csv").write_text("id,x,z\n1,2,3\n")
    with pytest.raises(ConveyorError, match=r"a\.csv: expected the columns y, got id, x, z"):
        model.predict(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("id,y,x\n1,2,3\n2,?,3\n")
    [one] = model.predict(tmp_path / "b.csv", skip_bad=True)
    assert one.names == ["1"]
    assert re.search(r"^1 bad records left out, .*line 3, column 'y'.*; fill it in, ", capsys.readouterr().err)
    np.testing.assert_allclose(one.probabilities, model.predict([[3, 2]])[0].probabilities)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("", "[data] nothing to read; name files with --data"),
        ("--data a.csv --pooling middle", "[options] invalid choice 'middle'"),
        ("--data a.csv --valid-share 0.5 --test-share 0.5", "[options] --valid-share and --test-share: expected less"),
        ("--data a.csv --variant lstn", "[options] --variant: "),
        ("--data a.csv --vocabulary 2", "[options] --vocabulary: too small for --tokens word, got 2"),
        ("--data a.csv", "[data] HERE/a.csv: class 'b' has 1 sequence, too few to train and valid and test with"),
    ],
)
def test_mistakes_on_the_command_line(
    arguments: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("id,x,label\n1,1,a\n2,2,a\n3,3,a\n4,4,b\n")
    assert main(["train", "classification", *arguments.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith("conveyor: " + said.replace("HERE", str(tmp_path)))
    assert error.count("\n") == 1


def test_japanese_vowels(conveyor_data: Path, tmp_path: Path) -> None:
    """Read as split, and learned in seconds to more than nearest neighbours by Euclidean distance reach (0.924)."""
    asked = config(conveyor_data / "japanese_vowels", pooling="max", noise=0.5)
    data = task.read(asked)
    assert data.summary == "243 + 27 + 370 sequences of 7 to 26 steps to train, validate, test; 9 classes"
    assert data.test.lengths.max() == 29
    assert data.facts["classes"] == [str(speaker) for speaker in range(1, 10)]
    asked.hidden_size, asked.training.epochs, asked.training.learning_rate = 32, 10, 0.01
    _, figures = fit(task, asked, tmp_path / "run")
    assert figures["test"]["accuracy"] > 0.93
