"""Whole sequences and streams, held against the torch modules they come from."""

import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from conveyor import GRU, LSTM, RNN, VARIANTS, Variant
from conveyor.errors import ConveyorError
from conveyor.interchange.bundle import to_bytes
from conveyor.interchange.graph import Graph
from conveyor.runtime import Model, Pool

T, B = 23, 7
LENGTHS = np.array([T, 3, 0, 11, 1, 20, 5])
MIXED = Variant(
    coupled=True, peepholes=True, gate_activation="hard-sigmoid", input_activation=("scaled-tanh", 1.5, 0.7), clip=3.0,
    cell_clip=2.0, zoneout_cell=0.1,
)  # fmt: skip
MODULES = {
    **{name: lambda H, name=name: LSTM(5, H, 2, variant=name) for name in VARIANTS},
    "mixed": lambda H: LSTM(5, H, 2, variant=MIXED),
    "projected to 7": lambda H: LSTM(5, max(H, 8), 2, proj_size=7),
    "projected variant": lambda H: LSTM(5, max(H, 8), 2, proj_size=7, variant=Variant(peepholes=True, proj_clip=0.1)),
    "without biases": lambda H: LSTM(5, H, bias=False),
    "gru": lambda H: GRU(5, H, 2),
    "rnn": lambda H: RNN(5, H, 2),
    "relu": lambda H: RNN(5, H, nonlinearity="relu"),
    "both ways": lambda H: LSTM(5, H, 2, bidirectional=True),
    "gru both ways": lambda H: GRU(5, H, 2, bidirectional=True),
    "peepholes both ways": lambda H: LSTM(5, H, bidirectional=True, variant="peephole"),
}  # fmt: skip


def shaken(module: nn.Module) -> nn.Module:
    """With weights that differ in every place, norms and biases of gates too."""
    with torch.no_grad():
        for weight in module.parameters():
            weight += 0.1 * torch.randn_like(weight)
    return module.eval()


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("H", [1, 31, 33])
def test_every_network_is_its_module_bit_for_bit(name: str, H: int, bundled: Any, random: np.random.Generator) -> None:
    module = shaken(MODULES[name](H))
    model, x = bundled(module), random.normal(size=(T, B, 5)).astype(np.float32)
    with torch.no_grad(), exact():
        expected = module(torch.from_numpy(x), lengths=torch.from_numpy(LENGTHS))[0].numpy()
    found = model.run(x, LENGTHS)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(model.run(x, LENGTHS, threads=2), found)
    if model.streams:
        session = model.session()
        one = np.stack([session.step(row).copy() for row in x[:, 0]])
        np.testing.assert_array_equal(one, found[:, 0])
        session.reset()
        np.testing.assert_array_equal(np.concatenate([session.push(part) for part in np.split(x[:, 0], [5, 6])]), one)


def exact() -> Any:
    """Torch's rows as they are alone: on tiles they are not, but for this."""

    class Deterministic:
        def __enter__(self) -> None:
            torch.use_deterministic_algorithms(True)

        def __exit__(self, *_: object) -> None:
            torch.use_deterministic_algorithms(False)

    return Deterministic()


@pytest.mark.parametrize("H", [33, 300])
def test_threads_share_what_is_large(H: int, bundled: Any, random: np.random.Generator) -> None:
    model = bundled(shaken(LSTM(H, H, 2)))
    x = random.normal(size=(9, 3, H)).astype(np.float32)
    np.testing.assert_array_equal(model.run(x, threads=2), model.run(x))
    one, two = model.session(), model.session(threads=2)
    for row in x[:, 0]:
        np.testing.assert_array_equal(two.step(row), one.step(row))


def test_other_nodes(network: Graph, random: np.random.Generator) -> None:
    """Against the same in numpy and torch."""
    model, tokens = Model.of_bytes(to_bytes(network)), random.integers(11, size=(T, B))
    nodes = network.nodes
    x = torch.from_numpy(nodes[1].arrays[0]["weight"])[tokens]
    norm, scale = nodes[2].arrays[0], nodes[3].arrays[0]
    x = nn.functional.layer_norm(x, [17], *map(torch.from_numpy, norm.values()))
    lower, upper = torch_lstm(nodes[4].arrays[0]), torch_lstm(nodes[6].arrays[0])
    with torch.no_grad():
        y = lower(x * torch.from_numpy(scale["weight"]) + torch.from_numpy(scale["bias"]))[0]
        z = torch.cat([x, upper(x + y)[0]], -1).tanh()
        output = nodes[-1].arrays[0]
        expected = (z @ torch.from_numpy(output["weight"]).T + torch.from_numpy(output["bias"])).numpy()
    np.testing.assert_allclose(model.run(tokens), expected, rtol=1e-5, atol=1e-5)
    assert model.facts == network.facts
    assert (model.task, model.tokens, model.outputs, model.streams) == ("made-up", 11, 7, True)


def torch_lstm(own: dict[str, np.ndarray]) -> nn.LSTM:
    lstm = nn.LSTM(own["w_ih"].shape[1], own["w_hh"].shape[1])
    lstm.load_state_dict(dict(zip(lstm.state_dict(), map(torch.from_numpy, own.values()), strict=True)))
    return lstm


@pytest.mark.parametrize("kind", ["relu", "tanh", "sigmoid", "softmax", "log_softmax"])
def test_activations(kind: Any, random: np.random.Generator) -> None:
    graph = Graph(features=37)
    graph.activation(0, kind)
    x = random.normal(0, 20, (5, 37)).astype(np.float32)
    plain = torch.from_numpy(x)
    expected = getattr(plain, kind)(-1) if "softmax" in kind else getattr(plain, kind)()
    np.testing.assert_allclose(Model.of_bytes(to_bytes(graph)).run(x), expected.numpy(), rtol=3e-6, atol=3e-7)


def test_pools_are_of_all_steps_so_far(random: np.random.Generator) -> None:
    x = random.normal(size=(T, 6)).astype(np.float32)
    steps = np.arange(1, T + 1)[:, None]
    expected = {
        "mean": x.cumsum(0) / steps,
        "max": np.maximum.accumulate(x),
        "ends": np.concatenate([x[:, :3], np.broadcast_to(x[:1, 3:], (T, 3))], 1),
    }
    for kind, wanted in expected.items():
        graph = Graph(features=6)
        graph.pool(0, kind)  # type: ignore[arg-type]
        session = Model.of_bytes(to_bytes(graph)).session()
        np.testing.assert_allclose(np.stack([session.step(row).copy() for row in x]), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
@pytest.mark.parametrize("name", ["lstm", "layer-norm", "full-gate-recurrence", "gru", "rnn", "projected to 7"])
def test_fewer_bits_lose_little_and_stay_exact_among_themselves(
    weights: Any, name: str, bundled: Any, random: np.random.Generator
) -> None:
    module = shaken(MODULES[name](33))
    model, x = bundled(module, weights), random.normal(size=(T, B, 5)).astype(np.float32)
    found, plain = model.run(x, LENGTHS), bundled(module).run(x, LENGTHS)
    error = np.abs(found - plain)
    assert 0 < error.mean() < 0.03 * np.abs(plain).max()  # a norm makes errors grow from step to step, in torch too
    np.testing.assert_array_equal(model.run(x, LENGTHS, threads=2), found)
    session = model.session()
    np.testing.assert_array_equal(np.stack([session.step(row).copy() for row in x[:, 0]]), found[:, 0])


def test_int8_is_its_own_arithmetic(random: np.random.Generator) -> None:
    """Whole numbers of weights and rows, their scales, and nothing else."""
    graph, w = Graph(features=50), random.normal(size=(70, 50)).astype(np.float32)
    w[3] = 0
    graph.linear(0, w, np.arange(70))
    x = random.normal(0, 3, (9, 50)).astype(np.float32)
    x[4] = 0
    scales, rows = np.abs(w).max(1) / 127, np.abs(x).max(1, keepdims=True) / 127
    whole = np.rint(w / np.where(scales > 0, scales, 1)[:, None])
    q = np.rint(x / np.where(rows > 0, rows, 1))
    expected = (q @ whole.T) * scales * rows + np.arange(70)
    np.testing.assert_allclose(Model.of_bytes(to_bytes(graph, "int8")).run(x), expected, rtol=1e-5, atol=1e-5)


def test_what_is_not_finite_stays_in_its_row(random: np.random.Generator) -> None:
    for weights in ("float32", "bfloat16", "int8"):
        graph = Graph(features=20)
        graph.linear(0, random.normal(size=(8, 20)))
        x = random.normal(size=(3, 20)).astype(np.float32)
        x[1, 5] = np.nan
        found = Model.of_bytes(to_bytes(graph, weights)).run(x)  # type: ignore[arg-type]
        assert np.isnan(found[1]).all()
        assert np.isfinite(found[[0, 2]]).all()


def test_states_go_on(network: Graph, random: np.random.Generator) -> None:
    model, tokens = Model.of_bytes(to_bytes(network)), random.integers(11, size=(T, B))
    states = np.zeros((B, model.state), np.float32)
    parts = [model.run(part, states=states) for part in np.split(tokens, [4, 15])]
    np.testing.assert_array_equal(np.concatenate(parts), model.run(tokens))
    session, other = model.session(), model.session()
    for token in tokens[:9, 0]:
        session.step(int(token))
    other.state = session.state
    np.testing.assert_array_equal(other.push(tokens[9:, 0]), session.push(tokens[9:, 0]))


def test_a_step_leaves_no_memory_taken(bundled: Any) -> None:
    """In Python; test_c.py counts what it asks of the system."""
    session, x = bundled(LSTM(5, 40, 2)).session(), np.zeros(5, np.float32)
    y = session.step(x)
    before = sys.getallocatedblocks()
    for _ in range(1000):
        session.step(x)
    assert abs(sys.getallocatedblocks() - before) < 10
    assert session.step(x) is y


MISTAKES: list[tuple[Any, str]] = [
    (lambda m: m.run(np.zeros((5, 2, 6))), r"expected floats \[5, 2, 5\], got \[5, 2, 6\]"),
    (lambda m: m.run(np.zeros(5)), "expected a sequence"),
    (lambda m: m.run(np.zeros((5, 2, 5)), [6, 1]), "lengths: expected 0 to 5, got 6|expected 0 to 5, got 6"),
    (lambda m: m.run(np.zeros((5, 2, 5)), [1]), r"expected one a sequence, \[2\], got \[1\]"),
    (lambda m: m.run(np.zeros((5, 2, 5)), threads=0), "threads: expected 1 to 1024, got 0"),
    (lambda m: m.session().step(np.zeros(4, np.float32)), r"expected floats \[5\], got \[4\]"),
    (lambda m: m.session().step(3), "expected floats, got a whole number"),
    (lambda m: setattr(m.session(), "state", np.zeros(3, np.float32)), r"expected \[8\], got \[3\]"),
    (lambda m: setattr(m.session(), "state", np.full(8, np.nan, np.float32)), "expected numbers, got NaN"),
    (
        lambda m: m.run(np.zeros((5, 2, 5)), states=np.zeros((2, 8))),
        r"expected contiguous, writable float32 \[B, 8\].*got float64",
    ),
    (lambda m: m.run(np.zeros((5, 2, 5)), states=np.zeros((1, 8), np.float32)), r"expected \[2, 8\], got \[1, 8\]"),
    (lambda m: m.run(np.zeros((5, 2, 5)), [1.5, 1]), "lengths: expected whole numbers, got float64"),
    (lambda m: m.run(np.zeros((5, 2, 5)), states=[[0.0]]), "states: expected contiguous, writable.*got list"),
    (lambda m: m.run(np.zeros((5, 2, 5)), states=np.broadcast_to(np.float32(0), (2, 8))), "states: expected contig"),
    (lambda m: m.run(np.zeros((5, 2, 5)), "ab"), "lengths: expected whole numbers, got <U2"),
    (lambda m: m.run(np.zeros((5, 2, 5)), [[1], [1, 2]]), "lengths: expected whole numbers: .*inhomogeneous"),
    (lambda m: m.run(np.zeros((5, 2, 5)), threads=1.5), "threads: expected a whole number, got 1.5"),
    (lambda m: m.run(np.zeros((5, 2, 5)), np.array([2**64 - 1, 1], np.uint64)), "below 2.63, got 18446744073709551615"),
    (lambda m: m.run(np.full((2, 5), -1e300)), "input: expected numbers within float32, got 1e.300"),
    (lambda m: m.run(np.zeros((2, 2, 5)), states=np.full((2, 8), np.nan, np.float32)), "states: expected numbers, got"),
    (lambda m: Pool("x", 3), "expected a Model, got str"),
    (lambda m: Model.load(None), "expected the path of a bundle, got None"),
    (lambda m: Model.load("a\0b"), "expected the path of a bundle, got 'a"),
    (lambda m: Model.of_bytes("s"), "expected the bytes of a bundle, got str"),
    (lambda m: m.run(None), "input: expected an array of numbers, got object"),
    (lambda m: m.session(2**70), "threads: expected a number below 2147483648, got 11805916207174113"),
    (lambda m: m.session().step(None), "input: expected an array of numbers, got object"),
    (lambda m: m.session().push([[1], [1, 2]]), "input: expected an array of numbers: .*inhomogeneous"),
    (lambda m: setattr(m.session(), "state", None), "state: expected an array of numbers, got object"),
    (lambda m: Pool(m, 1.5), "capacity: expected a whole number, got 1.5"),
    (lambda m: Pool(m, 2).leave("a"), "stream: expected a whole number, got 'a'"),
    (lambda m: Pool(m, 2).set_state(0, None), "expected a stream that has joined, got 0"),
    (lambda m: Pool(m, 2).step([0.5], np.zeros((1, 5))), "streams: expected whole numbers, got float64"),
    (lambda m: Pool(m, 0), "expected 1 to 1048576 streams, got 0"),
]


@pytest.mark.parametrize(("call", "error"), MISTAKES)
def test_mistakes(call: Any, error: str, bundled: Any) -> None:
    with pytest.raises(ConveyorError, match=error):
        call(bundled(LSTM(5, 4)))


def test_other_types_are_taken_too(network: Graph, bundled: Any) -> None:
    of_tokens, of_rows = Model.of_bytes(to_bytes(network)).session(), bundled(LSTM(5, 4)).session()
    first = of_tokens.step(3).copy()
    for given in (np.int32(3), np.uint8(3), np.array(3)):
        of_tokens.reset()
        np.testing.assert_array_equal(of_tokens.step(given), first)
    x = np.arange(10.0)[::2]
    first = of_rows.step(x.astype(np.float32)).copy()
    assert Model.of_bytes(memoryview(to_bytes(network))).outputs == 7
    for given in (x, x.astype(int), [*x]):
        of_rows.reset()
        np.testing.assert_array_equal(of_rows.step(given), first)
    with pytest.raises(ConveyorError, match="expected an array of numbers"):
        of_rows.step("abc")


def test_mistakes_with_tokens_and_both_directions(network: Graph, bundled: Any) -> None:
    model = Model.of_bytes(to_bytes(network))
    for given in (11, -1, 2**70, -(2**70)):
        with pytest.raises(ConveyorError, match=f"tokens: expected 0 to 10, got {given}"):
            model.session().step(given)
    with pytest.raises(ConveyorError, match=f"tokens: expected 0 to 10, got {2**63}"):
        model.run([2**63])
    assert model.run([]).shape == (0, 7)
    with pytest.raises(ConveyorError, match="expected tokens, whole numbers, got floats"):
        model.run(np.zeros((3, 2)))
    with pytest.raises(ConveyorError, match="reads its sequences from both ends; give it whole ones with run"):
        bundled(LSTM(5, 4, bidirectional=True)).session()
