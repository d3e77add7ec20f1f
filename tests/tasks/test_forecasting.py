"""Forecasting: rows that do not look ahead, loss and scores by hand, learning, prediction, mistakes."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

import conveyor
from conveyor.data import series as tables
from conveyor.data.distributions import Transform
from conveyor.data.records import BadRecords
from conveyor.data.series import Columns
from conveyor.data.windows import Cuts, Part, Row
from conveyor.errors import ConveyorError
from conveyor.nn import LSTM
from conveyor.nn.dilated import dilated
from conveyor.tasks import forecasting as task
from conveyor.training.fit import fit
from conveyor.training.options import ReadingOptions, TrainingOptions
from conveyor.training.scoring import score, sums_over
from conveyor.training.task import Model

HEADS = ["point", "quantile", "gaussian", "student-t", "negative-binomial"]
FACTS = asdict(
    task.Facts(horizon=3, season=4, window=8, transform="log", floor=0.5)
) | {"covariates": {"numbers": {}, "words": {}}}  # fmt: skip


CUTS = Cuts(3, 3, 100, 0.1, 0.1)


def small(**options: object) -> task.Config:
    return task.Config(hidden_size=6, dilations=(1, 3), **options)  # type: ignore[arg-type]


def made(**options: object) -> Model:
    """A model with weights drawn at random, the last layer's large."""
    torch.manual_seed(4)
    config = small(**options)
    network = task.network(config, FACTS)
    nn.init.normal_(network.output.weight, 0, 0.3)
    return Model(task, config, FACTS, network.eval())


def waves(folder: Path, count: int = 6, length: int = 80, season: int = 4, name: str = "waves.csv") -> str:
    """Counts that rise and fall every season, each series of another size."""
    random, steps = np.random.default_rng(1), np.arange(length)
    rows = [
        pl.DataFrame({"unique_id": f"s{n}", "ds": steps, "y": y})
        for n in range(count)
        for y in [random.poisson(10 * (n + 1) * (1.5 + np.sin(2 * np.pi * steps / season)))]
    ]
    pl.concat(rows).write_csv(folder / name)
    return str(folder / name)


def options(file: str, **more: object) -> dict[str, object]:
    training = TrainingOptions(batch_size=3, epochs=25, learning_rate=0.01, threads=1)
    return {
        "horizon": 3,
        "season": 4,
        "window": 8,
        "reading": ReadingOptions(data=(file,)),
        "training": training,
        **more,
    }


# Rows


def test_every_forecast_is_trained_once_and_none_reaches_into_validation(tmp_path: Path) -> None:
    config = small(**options(waves(tmp_path, 2, 80), history=20))
    data = task.read(config)
    for split in (data.train, data.valid, data.test):
        assert isinstance(split, Part)
    # 80 values: the last 8 are two whole forecasts to test on; of the 74 before, 7 are two to choose by
    assert [row.end for row in data.test.rows if row.series == 1] == [74, 77]
    assert [row.end for row in data.valid.rows if row.series == 1] == [68, 71]
    known = [n for row in data.train.rows if row.series == 1 for n in range(row.first, row.end + 1)]
    assert known == list(range(8, 68 - 3 + 1))
    assert max(row.end - row.start for row in (*data.train.rows, *data.test.rows)) == 20
    assert CUTS.pieces(0, 5, 8)[0].first == 2, "half of a short series is before its first forecast"


def test_stretches(tmp_path: Path) -> None:
    data = task.read(small(**options(waves(tmp_path, 2, 80))))
    batch = data.test.batch(0, 0)
    one = data.test.windows.series[0]
    assert batch.values.shape == (7 + 77 + 3, 4)
    row = batch.lengths.tolist().index(74)
    assert batch.values[:8, row].tolist() == [one.values[0]] * 8, "before its beginning a series is as its first value"
    assert batch.values[7 : 7 + 77, row].tolist() == one.values[:77].tolist()
    assert batch.values[7 + 77 :, row].isnan().all()
    assert batch.naive[row].item() == pytest.approx(np.abs(one.values[4:74] - one.values[:70]).mean())


def test_shares_of_two_processes_add_up(tmp_path: Path) -> None:
    data = task.read(small(**options(waves(tmp_path))))
    network = task.network(small(), data.facts)
    whole = sums_over(task, small(), network, data.test)
    parts = [sums_over(task, small(), network, data.test.share(n, 2)) for n in range(2)]
    for name, value in whole.items():
        assert float(value) == pytest.approx(sum(float(part[name]) for part in parts), rel=1e-5), name


# Network


def test_dilated_layer_is_d_sequences_side_by_side() -> None:
    torch.manual_seed(0)
    layer, x, lengths = LSTM(2, 3), torch.randn(11, 2, 2), torch.tensor([11, 8])
    got = dilated(layer, x, lengths, 3)
    for row, length in enumerate(lengths.tolist()):
        for offset in range(3):
            want = layer(x[offset:length:3, row])[0]
            assert torch.allclose(got[offset:length:3, row], want, atol=1e-6)
    assert not got[8:, 1].any()


def test_no_forecast_sees_what_comes_behind_it(tmp_path: Path) -> None:
    model = made()
    windows = task.windows_of(model.config, FACTS, [tables.of_numbers(np.arange(1, 31) % 7 + 1)])
    [row] = CUTS.pieces(0, 27, 8)
    before = model.network(windows.stretch([row]))
    later = windows.stretch([row])
    later.values[7 + 20 :] *= 3  # values 20 and on
    after = model.network(later)
    known = torch.arange(8, 28)
    same = (before.numbers == after.numbers).flatten(1).all(1)
    assert same[known <= 20].all()
    assert not same[known > 20].any()
    assert torch.equal(before.frame.centre[known <= 20], after.frame.centre[known <= 20])


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    model = made()
    y = np.random.default_rng(2).uniform(1, 9, 40)
    alone, [first, second] = model.predict(y)[0].table, model.predict(y, y[:5])
    both = model.predict(
        pl.DataFrame({"unique_id": ["a"] * 40 + ["b"] * 5, "ds": [*range(40), *range(5)], "y": [*y, *y[:5]]})
    )
    assert np.allclose(alone["forecast"], first.table["forecast"], rtol=1e-5)
    want = [*first.table["forecast"], *second.table["forecast"]]
    assert np.allclose(both[0].table["forecast"], want, rtol=1e-5)


@pytest.mark.parametrize("transform", ["log", "none"])
def test_the_unit_of_a_series_does_not_matter(transform: str) -> None:
    model = made(head="student-t")
    model.network.transform = Transform(transform, 0.5)
    y = np.random.default_rng(3).uniform(1, 9, 40)
    metres, millimetres = (model.predict(factor * y)[0].table.drop("unique_id", "ds") for factor in (1, 1000))
    assert np.allclose(1000 * metres.to_numpy(), millimetres.to_numpy(), rtol=1e-3)


# Loss and scores


def test_scores_by_hand(tmp_path: Path) -> None:
    """With an output layer of zeros the forecast is the season before: M4's sMAPE and MASE of that."""
    data = task.read(small(**options(waves(tmp_path))))
    network = task.network(small(), data.facts)
    nn.init.zeros_(network.output.weight)
    smape, mase = [], []
    for one in data.test.windows.series:
        for end in (74, 77):
            y, f, seen = one.values[end : end + 3], one.values[end - 4 : end - 1], one.values[:end]
            smape.append(np.mean(200 * abs(y - f) / (abs(y) + abs(f))))
            mase.append(np.mean(abs(y - f)) / np.mean(abs(seen[4:] - seen[:-4])))
    got = score(task, small(), network, data.test)
    assert got["smape"] == pytest.approx(np.mean(smape), rel=1e-5)
    assert got["mase"] == pytest.approx(np.mean(mase), rel=1e-5)
    assert got["naive_smape"] == pytest.approx(got["smape"], rel=1e-5)
    assert got["naive_mase"] == pytest.approx(got["mase"], rel=1e-5)
    assert next(iter(got)) == "smape"


def test_measures_of_intervals_by_hand() -> None:
    y, quantiles = torch.tensor([[2.0, 4.0]]), torch.tensor([[[1.0, 2.0, 3.0], [5.0, 6.0, 7.0]]])
    got = task.measure(y, quantiles, (0.1, 0.5, 0.9), torch.tensor([[2.0]]))
    assert got["coverage_80"] == 100  # of two values one is inside
    # pinball: 0.1·1, 0, 0.1·1; 0.9·1, 0.5·2, 0.1·3; twice the mean over levels, summed
    assert float(got["wql"]) == pytest.approx(2 * (0.2 + 2.2) / 3)
    assert float(got["mase"]) == pytest.approx(1.0)
    assert float(got["smape"]) == pytest.approx(200 * 2 / 10)


def test_a_constant_series_has_no_mase() -> None:
    sums = task.measure(torch.ones(1, 2), torch.full((1, 2, 1), 2.0), (0.5,), torch.zeros(1, 1))
    assert task.scores({name: float(value) for name, value in sums.items()} | {"loss": 0.0})["mase"] is math.nan
    table = made().predict([7.0] * 30)[0].table
    assert np.isfinite(table["forecast"].to_numpy()).all()
    assert np.allclose(table["forecast"], 7, rtol=0.1), "a series that never moved is forecast to hardly move"


@pytest.mark.parametrize("head", HEADS)
def test_every_head_learns(tmp_path: Path, head: str) -> None:
    config = small(**options(waves(tmp_path), head=head, intervals=(80.0,)))
    model, figures = fit(task, config, tmp_path / "run")
    test = figures["test"]
    assert test["smape"] < 0.95 * test["naive_smape"]
    [result] = model.predict(config.reading.data[0])
    assert result.table["forecast"].is_finite().all()
    if head != "point":
        assert 55 < test["coverage_80"] <= 100
        assert (result.table["lo_80"] <= result.table["forecast"]).all()
        assert (result.table["forecast"] <= result.table["hi_80"]).all()
        assert (result.table["lo_80"] < result.table["hi_80"]).any()
    assert "![Forecasts](forecasts.png)" in (tmp_path / "run" / "report.md").read_text()


def test_what_is_known_ahead_is_used(tmp_path: Path) -> None:
    """Values double on days that a covariate announces; nothing else tells."""
    random = np.random.default_rng(0)
    promo = random.integers(0, 2, (6, 90))
    frame = pl.concat(
        pl.DataFrame({"unique_id": f"s{n}", "ds": range(90), "y": 5.0 * 2 ** promo[n], "promo": promo[n], "size": "XL"})
        for n in range(6)
    )
    frame.write_csv(tmp_path / "a.csv")
    training = TrainingOptions(batch_size=3, epochs=40, learning_rate=0.02, threads=1)
    columns = Columns(ahead=("promo",), static=("size",))
    config = small(**options(f"{tmp_path}/a.csv", columns=columns, training=training))
    model, figures = fit(task, config, tmp_path / "run")
    assert figures["test"]["smape"] < 5 < 30 < figures["test"]["naive_smape"]
    future = pl.DataFrame({"unique_id": "s0", "ds": [90, 91, 92], "y": None, "promo": [1, 0, 1], "size": "XL"})
    given = pl.concat([frame.filter(pl.col("unique_id") == "s0"), future], how="vertical_relaxed")
    assert model.predict(given)[0].table["forecast"].to_list() == pytest.approx([10, 5, 10], rel=0.1)
    with pytest.raises(ConveyorError, match="series s0: expected promo for 3 steps behind the last value, got 1"):
        model.predict(given[:-2])


# Prediction


def test_a_table_goes_in_and_one_comes_out(tmp_path: Path) -> None:
    file = tmp_path / "days.csv"
    file.write_text("unique_id,ds,y\n" + "".join(f"a,2024-02-{n:02},{n % 4 + 1}\n" for n in range(1, 29)))
    model = made()
    [result] = model.predict(str(file))
    assert result.table.columns == ["unique_id", "ds", "lo_95", "lo_80", "lo_50", "forecast", "hi_50", "hi_80", "hi_95"]
    assert [str(day) for day in result.table["ds"]] == ["2024-02-29", "2024-03-01", "2024-03-02"]
    assert str(result).splitlines()[1].startswith("a,2024-02-29,")
    for name, read in (("f.csv", pl.read_csv), ("f.parquet", pl.read_parquet)):
        task.save([result, result], tmp_path / name)
        assert np.allclose(read(tmp_path / name)["hi_80"], [*result.table["hi_80"]] * 2)
    with pytest.raises(ConveyorError, match=r"forecasts quantiles from 0.025 to 0.975, got 0.005 to 0.995"):
        model.predict(str(file), intervals=(99.0,))


def test_a_backtest_is_what_was_forecast_then() -> None:
    model = made()
    y = np.random.default_rng(2).uniform(1, 9, 40)
    table = model.predict(y, backtest=2)[0].table
    assert table["cutoff"].to_list() == [34] * 3 + [37] * 3
    assert table["ds"].to_list() == list(range(35, 41))
    assert np.allclose(table["y"], y[34:])
    for end, rows in ((34, table[:3]), (37, table[3:])):
        assert np.allclose(rows["forecast"], model.predict(y[:end])[0].table["forecast"], rtol=1e-5)


def test_an_ensemble_is_the_mean_of_its_networks() -> None:
    models = [made(), made()]
    nn.init.normal_(models[1].network.output.weight)
    stretch = task.windows_of(small(), FACTS, [tables.of_numbers(range(1, 30))]).stretch([Row(0, 0, 29, 29)])
    one, two = (model.network(stretch).numbers for model in models)
    together = task.ensemble([model.network for model in models])
    assert torch.allclose(together(stretch).numbers, (one + two) / 2)
    assert len(models[0]._replace(network=together).predict(range(1, 30))[0].table) == 3


def test_other_data_are_scored_by_their_ends(tmp_path: Path) -> None:
    model = made()
    split = task.read_test(model.config, FACTS, [waves(tmp_path, 2, 25)], BadRecords(False))
    assert [row.end for row in split.rows] == [22, 22]
    assert score(task, model.config, model.network, split)["smape"] > 0


# Mistakes


def test_a_series_shorter_than_the_horizon(tmp_path: Path) -> None:
    file = Path(waves(tmp_path, 3, 40))
    file.write_text(file.read_text() + "short,0,1\nshort,1,2\n")
    config = small(**options(str(file)))
    with pytest.raises(
        ConveyorError, match=r"series short is too short: expected 10 values or more, .* got 2, .*lower --horizon"
    ):
        task.read(config)
    config = replace(config, reading=ReadingOptions(data=(str(file),), skip_bad=True))
    data = task.read(config)
    assert "3 series" in data.summary
    assert "1 bad records left out, the first: [data] series short" in data.summary
    assert len(made().predict(pl.DataFrame({"unique_id": "a", "ds": [1], "y": [5.0]}))[0].table) == 3, "it is forecast"


def test_series_that_are_wrong_are_not_forecast(capsys: pytest.CaptureFixture[str]) -> None:
    given = pl.DataFrame({"unique_id": ["a", "a", "b"], "ds": [1, 2, 1], "y": [5.0, None, 5.0]})
    with pytest.raises(ConveyorError, match="got nothing; fill it in, or train with --fill-gaps, or leave such rec"):
        made().predict(given)
    [result] = made().predict(given, skip_bad=True)
    assert result.table["unique_id"].unique().to_list() == ["b"]
    assert capsys.readouterr().err.startswith("1 bad records left out, the first: [series] the table, line 2, y: ")


def test_limit_counts_series(tmp_path: Path) -> None:
    config = small(**options(waves(tmp_path, 6, 40)))
    limited = replace(config, reading=replace(config.reading, limit=2))
    assert task.read(limited).summary.startswith("2 series, 80 values")


def test_options_that_do_not_fit_the_data(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("unique_id,ds,y\n" + "".join(f"a,{n},{n - 5.5}\n" for n in range(40)))
    with pytest.raises(ConveyorError, match=r"--transform log: the smallest value is -5.5; take --transform none"):
        task.read(small(**options(f"{tmp_path}/a.csv", transform="log")))
    with pytest.raises(ConveyorError, match="negative-binomial: expected whole numbers, 0 or more"):
        task.read(small(**options(f"{tmp_path}/a.csv", head="negative-binomial")))
    with pytest.raises(ConveyorError, match="--dilations: expected one layer or more"):
        task.Config(dilations=())
    assert task.read(small(**options(f"{tmp_path}/a.csv"))).facts["transform"] == "none"


def test_a_run_goes_on_with_its_own_series_alone(tmp_path: Path) -> None:
    config = small(**options(waves(tmp_path)))
    facts = task.read(config).facts
    assert task.read(config, facts).facts == facts
    waves(tmp_path, length=81)
    with pytest.raises(ConveyorError, match="not the series this run was trained on"):
        task.read(config, facts)


def test_damaged_facts(tmp_path: Path) -> None:
    config = small(**options(waves(tmp_path), columns=Columns(static=("unique_id",))))
    config = replace(config, training=replace(config.training, epochs=1))
    fit(task, config, tmp_path / "run")
    description = json.loads((tmp_path / "run" / "model.json").read_text())
    for name, value in (
        ("horizon", "3"),
        ("season", None),
        ("window", 0),
        ("covariates", {"numbers": {}}),
        ("transform", "ln"),
    ):
        damaged = {**description, "facts": {**description["facts"], name: value}}
        (tmp_path / "run" / "model.json").write_text(json.dumps(damaged))
        with pytest.raises(ConveyorError):
            conveyor.load(tmp_path / "run")


# Public data


def test_m4_hourly_as_its_organizers_count(conveyor_data: Path) -> None:
    """The seasonal naive forecast has 13.912 and 1.193 (M4, Makridakis et al. 2020)."""
    files = tuple(str(conveyor_data / "m4" / f"Hourly-{part}.csv") for part in ("train", "test"))
    config = small(reading=ReadingOptions(data=files, valid_share=0.05), history=24, window=24)
    data = task.read(config)
    assert data.summary.startswith("414 series, 373,372 values; 414 + 414 forecasts of 48 steps")
    network = task.network(config, data.facts)
    nn.init.zeros_(network.output.weight)
    got = score(task, config, network, data.test)
    assert got["smape"] == pytest.approx(13.912, abs=0.001)
    assert got["mase"] == pytest.approx(1.193, abs=0.001)
