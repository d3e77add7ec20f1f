"""Recordings, with the equations and the networks themselves as witnesses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from conveyor import tasks
from conveyor.data import tokenizer
from conveyor.errors import ConveyorError
from conveyor.inspect import gates, record
from conveyor.inspect.recording import Layer, Source, watching
from conveyor.nn import LSTM, LSTMCell
from conveyor.nn.window import WindowLSTM
from conveyor.training.task import STRETCH, Model

TEXT = "Bob is a nice person. Dan, on the other hand, is evil.\n"


def test_every_gate_is_the_equations(model: Model, by_the_equations: Any) -> None:
    """Over several stretches, and over pieces that begin and end anywhere."""
    text = (TEXT * 200)[: 2 * STRETCH + 100]
    seen = record(model, text)
    ids = torch.from_numpy(tokenizer.from_json(model.facts["tokenizer"]).encode(text)).unsqueeze(1)
    network: Any = model.network
    with torch.no_grad():
        expected = by_the_equations(network.lstm, network.embedding(ids))
    assert len(seen) == len(text)
    assert [layer.name for layer in seen.layers] == ["lstm 1", "lstm 2"]
    for number, of in enumerate(expected):
        for first, last in [(0, len(text)), (STRETCH - 3, STRETCH + 5), (7, 8), (len(text) - 1, len(text))]:
            part = seen.at(number, first, last)
            for q in "ifgoc":
                np.testing.assert_allclose(getattr(part, q), getattr(of, q)[first:last, 0], atol=2e-5)
            h = (of.o * of.c.tanh())[:, 0].numpy()
            np.testing.assert_allclose(part.h, h[first:last], atol=2e-5)
            before = (h[first - 1], of.c[first - 1, 0].numpy()) if first else (np.zeros(32), np.zeros(32))
            np.testing.assert_allclose(part.h_before, before[0], atol=2e-5)
            np.testing.assert_allclose(part.c_before, before[1], atol=2e-5)
    below = (expected[0].o * expected[0].c.tanh())[:, 0]
    np.testing.assert_allclose(seen.at(1, 5, 30).x, below[5:30], atol=2e-5)
    np.testing.assert_allclose(seen.at(0, 5, 30).x, network.embedding(ids)[5:30, 0].detach(), atol=0)


def test_what_was_expected_is_what_the_network_says(model: Model) -> None:
    text = (TEXT * 200)[: STRETCH + 50]
    seen = record(model, text)
    tokens = tokenizer.from_json(model.facts["tokenizer"])
    ids = torch.from_numpy(tokens.encode(text))
    with torch.no_grad():
        p = model.network(ids.unsqueeze(1))[0][:, 0].softmax(-1)
    assert "".join(seen.labels) == text
    assert seen.came is not None
    np.testing.assert_allclose(seen.came[:-1], p[torch.arange(len(ids) - 1), ids[1:]], rtol=1e-4)
    assert np.isnan(seen.came[-1])
    for step in (0, 20, STRETCH, len(text) - 1):
        names, shares = zip(*seen.expected(step), strict=True)
        best = p[step].topk(5)
        assert names == tuple(tokens.decode([n]) for n in best.indices.tolist())
        np.testing.assert_allclose(shares, best.values, rtol=1e-4)


@pytest.mark.parametrize("calls", [1, 3])
def test_both_directions(calls: int) -> None:
    torch.manual_seed(0)
    lstm = LSTM(5, 4, 2, bidirectional=True).eval()
    x = torch.randn(9, 2, 5)
    lengths = torch.tensor([7, 9])
    with watching(torch.nn.ModuleDict({"read": lstm})) as found, torch.inference_mode():
        for _ in range(calls):
            lstm(x, lengths=lengths)
    [(name, same, given)] = found
    source = Source(name, same, given)
    assert (name, same is lstm, len(given)) == ("read", True, calls)
    expected = gates(lstm, x[:7, :1])
    for number in range(4):
        layer = Layer(source, number)
        assert layer.name == f"read {1 + number // 2}{' reverse' if number % 2 else ''}"
        part = layer.at(7 * calls - 7, 7 * calls)
        np.testing.assert_allclose(part.c, expected[number].c[:, 0].detach(), atol=1e-6)
    edge = Layer(source, 1).at(2, 4)
    np.testing.assert_allclose(edge.c_before, expected[1].c[4, 0].detach(), atol=1e-6)
    np.testing.assert_allclose(Layer(source, 1).at(5, 7).c_before, np.zeros(4))


def test_cells_are_layers_of_one_step_a_call(by_the_equations: Any) -> None:
    torch.manual_seed(0)
    cell, x = LSTMCell(5, 4), torch.randn(6, 3, 5)
    network = torch.nn.ModuleList([cell])
    state = (torch.zeros(3, 4), torch.zeros(3, 4))
    with watching(network) as found, torch.no_grad():
        for one in x:
            state = cell(one, state)
    [(_, lstm, given)] = found
    layer = Layer(Source("cell", lstm, given), 0)
    [expected] = by_the_equations(lstm, x[:, :1])
    np.testing.assert_allclose(layer.at(0, 6).f, expected.f[:, 0].detach(), atol=1e-6)
    np.testing.assert_allclose(layer.at(5, 6).c[0], state[1][0], atol=1e-6)


def test_watching_leaves_no_trace() -> None:
    lstm = LSTM(5, 4)
    with pytest.raises(RuntimeError, match="input"), watching(lstm):
        lstm(torch.zeros(2, 3, 6))
    assert "forward" not in vars(lstm)


@pytest.mark.parametrize("name", sorted(tasks.summaries(Path(tasks.__file__).parent)))
def test_every_task_can_be_looked_into(name: str, tmp_path: Path) -> None:
    task = tasks.find(name)
    smoke = task.smoke(tmp_path / "data")
    data = task.read(smoke.config)
    model = Model(task, smoke.config, data.facts, task.network(smoke.config, data.facts).eval())
    seen = record(model, smoke.inputs[0])
    assert hasattr(task, "steps") or name == "image-generation"  # whose steps are glimpses
    for number, layer in enumerate(seen.layers):
        part, track = seen.at(number), seen.track(layer)
        assert len(track) == len(layer)
        if track.told:
            assert 1 >= track.expected(0)[0][1] > 0
        assert part.f.shape == (len(layer), layer.units)
        assert np.isfinite(part.c).all()
    if seen.told:
        shares = [share for _, share in seen.expected(len(seen) - 1)]
        assert 1 >= shares[0] == max(shares) > 0


def test_mistakes(model: Model) -> None:
    with pytest.raises(ConveyorError, match="the text is empty"):
        record(model, "")
    seen = record(model, "Bob")
    with pytest.raises(ConveyorError, match="layer 2: expected 0 to 1"):
        seen.at(2)
    with pytest.raises(ConveyorError, match="steps 3 to 9: expected some of the 3 that were read"):
        seen.at(0, 3, 9)


def test_the_lstm_that_moves_a_window() -> None:
    lstm, x = WindowLSTM(3, 5, 4, 2), torch.randn(7, 1, 3)
    text = nn.functional.one_hot(torch.tensor([[1], [4], [2]]), 5).float()
    with torch.no_grad(), watching(lstm) as found:
        first, _, _, state = lstm(x[:4], text, torch.tensor([3]))
        rest, *_ = lstm(x[4:], text, torch.tensor([3]), state)
    name, layer, calls = found[0]
    assert name == "lstm"
    assert [len(call.input) for call in calls] == [4, 3]
    layer = Layer(Source(name, layer, calls), 0)
    expected = torch.cat([first, rest])[:, 0].numpy()
    np.testing.assert_allclose(layer.at(0, 7).h, expected, rtol=1e-4, atol=1e-6)


def test_parts_of_a_network_go_in_steps_of_their_own(tmp_path: Path) -> None:
    task = tasks.find("translation")
    smoke = task.smoke(tmp_path)
    data = task.read(smoke.config)
    torch.manual_seed(0)
    model = Model(task, smoke.config, data.facts, task.network(smoke.config, data.facts).eval())
    seen = record(model, "ba do ki")
    tracks = {layer.name: seen.track(layer).labels for layer in seen.layers}
    assert tracks["encoder.lstm 1"] == ["ba ", "do ", "ki "]
    written = tracks["decoder.lower 1"]
    assert written[0] == "⏎ "
    assert seen.labels == written
    for step, label in enumerate(written[1:]):
        assert f"{seen.expected(step)[0][0]} " == label  # greedily: what it expected most is what it read next
