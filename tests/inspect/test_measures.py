"""Measures, against numpy over all steps at once, loops, and exact Jacobians."""

from typing import Any

import numpy as np
import pytest
import torch

from conveyor.errors import ConveyorError
from conveyor.inspect import measures, record
from conveyor.inspect.measures import SIZE, Measured, alone, flow, gradient_norms, lesson, where
from conveyor.inspect.recording import Recording, Track
from conveyor.nn import LSTM, RNN
from conveyor.training.task import STRETCH, Model, Steps

TEXT = 'He said "Bob is nice." (Dan is not.)\nBob has 4 hands. '


@pytest.fixture(scope="module")
def seen(model: Model) -> Recording:
    return record(model, (TEXT * 100)[: STRETCH + 300])


@pytest.fixture(scope="module")
def measured(seen: Recording) -> Measured:
    return Measured(seen, seen.layers[1])


def test_sums(seen: Recording, measured: Measured) -> None:
    part, sums = seen.at(1), measured.sums
    for q in "ifgoch":
        values = getattr(part, q).astype(float)
        np.testing.assert_allclose(sums.mean[q], values.mean(0), atol=1e-6)
        np.testing.assert_allclose(sums.variance[q], values.var(0), atol=1e-6)
    for q in "ifo":
        np.testing.assert_allclose(sums.left[q], (getattr(part, q) < 0.1).mean(0))
        np.testing.assert_allclose(sums.right[q], (getattr(part, q) > 0.9).mean(0))
    kept = np.exp(np.log(part.f.astype(float)).mean(0))
    np.testing.assert_allclose(kept**measured.lifetimes, np.exp(-1), rtol=1e-6)


def test_orders(seen: Recording, measured: Measured) -> None:
    c = seen.at(1).c
    assert measured.order("unit").tolist() == [*range(32)]
    assert measured.order("variance").tolist() == np.argsort(-c.var(0), kind="stable").tolist()
    assert sorted(measured.order("cluster")) == [*range(32)]
    clustered = np.corrcoef(c[:512].T)[np.ix_(measured.clusters, measured.clusters)]
    assert np.diag(clustered, 1).mean() > np.diag(np.corrcoef(c[:512].T), 1).mean(), "neighbours go together"
    by = np.abs(measured.selectivity("digits"))
    assert measured.order("selective", "digits").tolist() == np.argsort(-by, kind="stable").tolist()
    with pytest.raises(ConveyorError, match="order 'size': expected unit, cluster, variance"):
        measured.order("size")


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("inside quotes", '"Bob is nice."'),
        ("inside brackets", "(Dan is not.)"),
        ("digits", "4"),
        ("capitals", "H"),
        ("line ends", "\n"),
        ("B(?=ob)", "B"),
    ],
)
def test_where_patterns_are(seen: Recording, measured: Measured, pattern: str, text: str) -> None:
    there = where(seen, pattern)
    marked = "".join(label if on else "\0" for label, on in zip(seen.labels, there, strict=True))
    assert {piece for piece in marked.split("\0") if piece} >= {text}
    assert not set("".join(label for label, on in zip(seen.labels, there, strict=True) if not on)) & {text}
    expected = [np.corrcoef(there, column)[0, 1] for column in seen.at(1).c.T]
    np.testing.assert_allclose(measured.selectivity(pattern), expected, atol=1e-5)


def test_where_something_is_expected(seen: Recording, measured: Measured) -> None:
    there = where(seen, "expected:o")
    assert there.tolist() == [seen.expected(n)[0][0] == "o" for n in range(len(seen))]
    with pytest.raises(ConveyorError, match="'expected:ö': expected one of"):
        where(seen, "expected:ö")
    with pytest.raises(ConveyorError, match="expected a regular expression, but"):
        where(seen, "(")
    assert not measured.selectivity("nowhere at all").any()


@pytest.mark.parametrize("level", [0, 1, 3])
def test_blocks_are_means(seen: Recording, measured: Measured, level: int) -> None:
    whole, width = seen.at(1).f, 1 << level
    rows = [whole[at : at + width].mean(0) for at in range(0, len(whole), width)]
    blocks = [measured.block("f", level, n) for n in range(-(-len(rows) // SIZE))]
    assert {len(block) for block in blocks[:-1]} <= {SIZE}
    np.testing.assert_allclose(np.concatenate(blocks), rows, atol=1e-6)
    assert measured.block("f", level, 999).shape == (0, 32)
    with pytest.raises(ConveyorError, match="expected one of i, f, g, o, c, h, x and a level"):
        measured.block("z", 0, 0)


def test_matches_are_those_of_a_loop(seen: Recording, measured: Measured) -> None:
    first, last = 9, 12
    units, places = measured.matches(first, last)
    h = seen.at(1).h
    on = [u for u in range(32) if (h[first:last, u] > 0.3).all() or (h[first:last, u] < -0.3).all()]
    assert units.tolist() == on
    assert on
    signs = np.sign(h[first, on])
    shares = [((h[at : at + 3, on] * signs) > 0.3).mean() for at in range(len(h) - 2)]
    elsewhere = max(share for at, share in enumerate(shares) if abs(at - first) >= 3)
    assert places[0][1] == pytest.approx(elsewhere)
    for at, share in places:
        assert share == pytest.approx(shares[at])
    starts = [first, *(at for at, _ in places)]
    assert min(abs(a - b) for n, a in enumerate(starts) for b in starts[:n]) >= 3


def test_gradients_are_those_of_the_jacobian(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "DIRECTIONS", 4000)
    torch.manual_seed(0)
    lstm, x = LSTM(3, 5), torch.randn(6, 1, 3)
    jacobian = torch.autograd.functional.jacobian(lambda x: lstm(x)[0][-1, 0], x)
    exact = jacobian.square().sum((0, 2, 3)).sqrt()
    torch.testing.assert_close(gradient_norms(lstm, x), exact, rtol=0.05, atol=0)
    early = torch.autograd.functional.jacobian(lambda x: lstm(x)[0][2, 0], x).square().sum((0, 2, 3)).sqrt()
    torch.testing.assert_close(gradient_norms(lstm, x, target=2), early, rtol=0.05, atol=1e-7)


@pytest.mark.parametrize("step", [5, 200, STRETCH + 20])
def test_occlusion_is_that_of_a_loop(model: Model, seen: Recording, measured: Measured, step: int) -> None:
    found: dict[str, Any] = measured.memory(step)
    network: Any = model.network
    x = torch.from_numpy(seen.at(0, 0, step + 1).x).unsqueeze(1)
    with torch.no_grad():
        y = network.lstm(x)[0][-1, 0]
        for at in (step, max(0, step - 3), found["first"]):
            hidden = x.clone()
            hidden[at] = 0
            moved = (network.lstm(hidden)[0][-1, 0] - y).norm() / y.norm()
            assert found["occlusion"][at - found["first"]] == pytest.approx(moved.item(), rel=1e-3, abs=1e-6)
    assert found["first"] == max(0, step - 63)
    assert len(found["gradient"]) == step + 1 - found["first"]


def test_memory_in_both_directions() -> None:
    from conveyor.inspect.recording import Layer, Source, watching
    from conveyor.training.task import Steps

    torch.manual_seed(0)
    lstm, x = LSTM(3, 4, bidirectional=True), torch.randn(12, 1, 3)
    with watching(torch.nn.ModuleList([lstm])) as calls, torch.inference_mode():
        lstm(x)
    source = Source("l", lstm, calls[0][2])
    seen = Recording("x", [Steps([str(n) for n in range(12)])], [Layer(source, 0), Layer(source, 1)])
    found = Measured(seen, seen.layers[1]).memory(4)
    hidden = x.clone()
    hidden[9] = 0
    with torch.no_grad():
        y, other = lstm(x)[0][4, 0], lstm(hidden)[0][4, 0]
    assert found["first"] == 0
    assert found["occlusion"][9] == pytest.approx(((other - y).norm() / y.norm()).item(), rel=1e-4)


def test_flow_and_lesson(seen: Recording) -> None:
    layer = seen.layers[1]
    curves = flow(layer, 0, 60)
    assert [len(curve) for curve in curves.values()] == [60] * 3
    assert {curve[-1] for curve in curves.values()} == {1.0}
    assert curves["an untrained plain RNN"][0] < curves["an untrained LSTM"][0]
    found, part = lesson(layer, 3, 10, 30), seen.at(1, 10, 30)
    torch.manual_seed(0)
    rnn = RNN(32, 32)
    np.testing.assert_allclose(found["rnn"], np.tanh(np.sum(found["rnn_sums"], 1)), atol=1e-5)
    np.testing.assert_allclose(found["rnn"], rnn(torch.from_numpy(part.x))[0][:, 3].detach(), atol=1e-6)
    with torch.no_grad():
        backward = alone(layer)(torch.from_numpy(part.x[::-1].copy()))[0].flip(0)[:, 3]
    np.testing.assert_allclose(found["backward"], backward, atol=1e-6)
    assert found["c_before"] == pytest.approx(float(seen.at(1, 9, 10).c[0, 3]), abs=1e-6)


def test_a_pattern_that_looks_back_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "PATIENCE", 0.1)
    track = Track([Steps(["a"] * 40 + ["b"])])
    with pytest.raises(ConveyorError, match="expected a pattern that looks back less"):
        measures.where(track, r"(a|aa|a+)+$")
