"""Many streams, each as if it were alone."""

import numpy as np
import pytest

from conveyor.errors import ConveyorError
from conveyor.interchange.bundle import Weights, to_bytes
from conveyor.interchange.graph import Graph
from conveyor.runtime import Model, Pool


@pytest.mark.parametrize("weights", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("threads", [1, 2])
def test_streams_that_come_and_go(weights: Weights, threads: int, network: Graph, random: np.random.Generator) -> None:
    model = Model.of_bytes(to_bytes(network, weights))
    pool, alone = Pool(model, 60, threads), dict[int, object]()
    for _ in range(150):
        if alone and random.random() < 0.3:
            stream = int(random.choice([*alone]))
            del alone[stream]
            pool.leave(stream)
        while len(alone) < 60 and random.random() < 0.7:
            alone[pool.join()] = model.session()
        assert len(pool) == len(alone)
        some = random.permutation([*alone])[: random.integers(len(alone) + 1)] if alone else np.zeros(0)
        tokens = random.integers(11, size=len(some))
        found = pool.step(some.astype(np.int64), tokens)
        for stream, token, row in zip(some, tokens, found, strict=True):
            np.testing.assert_array_equal(row, alone[int(stream)].step(int(token)))  # type: ignore[attr-defined]


def test_states_move_between_pools_and_sessions(network: Graph) -> None:
    model = Model.of_bytes(to_bytes(network))
    pool, session = Pool(model, 3), model.session()
    stream = pool.join()
    for token in (3, 1, 4):
        pool.step(np.array([stream]), np.array([token]))
    session.state = pool.state(stream)
    np.testing.assert_array_equal(session.step(5), pool.step(np.array([stream]), np.array([5]))[0])
    pool.reset(stream)
    assert not pool.state(stream).any()
    pool.set_state(stream, session.state)
    np.testing.assert_array_equal(pool.state(stream), session.state)


def test_mistakes(network: Graph) -> None:
    pool = Pool(Model.of_bytes(to_bytes(network)), 2)
    first = pool.join()
    pool.join()
    with pytest.raises(ConveyorError, match="all 2 streams are taken; one must leave first"):
        pool.join()
    with pytest.raises(ConveyorError, match="expected each stream once a step"):
        pool.step(np.array([first, first]), np.array([1, 2]))
    with pytest.raises(ConveyorError, match=r"expected tokens \[1\], got \[2\]"):
        pool.step(np.array([first]), np.array([1, 2]))
    pool.leave(first)
    for call in (lambda: pool.leave(first), lambda: pool.step(np.array([first]), np.array([1])), lambda: pool.state(7)):
        with pytest.raises(ConveyorError, match="expected a stream that has joined, got"):
            call()
