"""torch.compile, torch.export and torch.jit.trace take every call whole, and do not look at values."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from conveyor.nn import LSTM

Agree = Callable[[Tensor, Tensor], None]
T, B, I, H = 2, 4, 5, 6
NAMES: list[tuple[str, ...]] = [(), ("lengths", "resets")]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    torch.manual_seed(0)
    yield
    torch._dynamo.reset()


def cuts(names: tuple[str, ...]) -> dict[str, Tensor]:
    drawn = {"lengths": torch.randint(0, T + 1, (B,)), "resets": torch.rand(T, B) < 0.3}
    return {name: drawn[name] for name in names}


class Positional(nn.Module):
    """torch.jit.trace takes no arguments by name."""

    def __init__(self, module: nn.Module, names: tuple[str, ...], **options: Any) -> None:
        super().__init__()
        self.module, self.names, self.options = module, names, options

    def forward(self, input: Tensor, hx: Any, *cuts: Tensor) -> Any:
        return self.module(input, hx, **dict(zip(self.names, cuts, strict=True)), **self.options)


@pytest.mark.parametrize("names", NAMES, ids=str)
def test_compiles_to_one_graph_for_all_values(make: Any, states: Any, names: tuple[str, ...]) -> None:
    ours, _ = make(I, H, bidirectional=True)
    compiled = torch.compile(ours, fullgraph=True, dynamic=True, backend="aot_eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for _ in range(3):
            args, options = (torch.randn(T, B, I), states(ours, B)), cuts(names)
            torch.testing.assert_close(compiled(*args, **options), ours(*args, **options))


@pytest.mark.parametrize("names", [(), ("lengths",), ("lengths", "resets")], ids=str)
@pytest.mark.parametrize("first", [False, True])
def test_one_compilation_serves_all_sizes(make: Any, first: bool, names: tuple[str, ...]) -> None:
    """Other steps, rows, lengths and resets compile nothing anew."""
    ours, _ = make(I, H, num_layers=2, batch_first=first, bidirectional=True)
    compiled = torch.compile(ours, fullgraph=True, dynamic=True, backend="aot_eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for shape in ((7, 3), (9, 4), (2, 8)):
            T, B = reversed(shape) if first else shape
            all = {"lengths": torch.randint(0, T + 1, (B,)), "resets": torch.rand(shape) < 0.3}
            input, options = torch.randn(*shape, I), {name: all[name] for name in names}
            torch.testing.assert_close(compiled(input, **options), ours(input, **options))


def test_gradients_of_the_compiled(make: Any, states: Any, run: Any, agree: Agree) -> None:
    ours, _ = make(I, H, num_layers=2)
    args = torch.randn(T, B, I), states(ours, B)
    compiled = torch.compile(lambda m, *a: m(*a), fullgraph=True, dynamic=True, backend="aot_eager")
    want = run(ours, *args, dtype=torch.float64)
    for mine, witness in zip(run(ours, *args, dtype=torch.float32, by=compiled), want, strict=True):
        agree(mine, witness)


def test_gates_compile() -> None:
    lstm, input = LSTM(I, H, bidirectional=True), torch.randn(T, B, I)
    compiled = torch.compile(lstm, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(input, return_gates=True), lstm(input, return_gates=True))


@pytest.mark.parametrize("given", [False, True], ids=["no states", "states"])
def test_packed_sequences_compile(make: Any, states: Any, given: bool) -> None:
    """Sorted ones only with states: nothing but a value says how many rows there are."""
    ours, _ = make(I, H, bidirectional=True)
    packed = pack_padded_sequence(torch.randn(T, B, I), [2, 2, 2, 1], enforce_sorted=given)
    hx = states(ours, B) if given else None
    output, last = torch.compile(ours, fullgraph=True, backend="aot_eager")(packed, hx)
    want, witness = ours(packed, hx)
    torch.testing.assert_close(output.data, want.data)
    torch.testing.assert_close(last, witness)


@pytest.mark.parametrize("names", NAMES, ids=str)
def test_is_exported(make: Any, states: Any, names: tuple[str, ...]) -> None:
    ours, _ = make(I, H, num_layers=2, bidirectional=True)
    exported = torch.export.export(ours, (torch.randn(T, B, I), states(ours, B)), cuts(names)).module()
    args, options = (torch.randn(T, B, I), states(ours, B)), cuts(names)
    torch.testing.assert_close(exported(*args, **options), ours(*args, **options))


@pytest.mark.parametrize("names", NAMES, ids=str)
def test_is_traced_without_a_warning(make: Any, states: Any, names: tuple[str, ...]) -> None:
    ours, _ = make(I, H, num_layers=2, bidirectional=True, batch_first=True)

    def call() -> tuple[Tensor, ...]:
        given = cuts(names)
        given = {name: cut.T if name == "resets" else cut for name, cut in given.items()}
        return torch.randn(B, T, I), states(ours, B), *given.values()

    module = Positional(ours, names)
    traced, args = torch.jit.trace(module, call()), call()
    torch.testing.assert_close(traced(*args), module(*args))


def test_a_single_sequence_is_traced(make: Any, states: Any) -> None:
    ours, _ = make(I, H, num_layers=2)
    traced = torch.jit.trace(ours, (torch.randn(T, I), states(ours, None)))
    args = torch.randn(T, I), states(ours, None)
    torch.testing.assert_close(traced(*args), ours(*args))
