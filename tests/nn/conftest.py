"""What the tests of the layers share: pairs of modules from one seed, and all that a call gives, gradients included."""

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from conveyor.nn import GRU, LSTM, RNN

PAIRS = {
    "LSTM": (LSTM, nn.LSTM),
    "projected": (partial(LSTM, proj_size=3), partial(nn.LSTM, proj_size=3)),
    "GRU": (GRU, nn.GRU),
    "RNN": (RNN, nn.RNN),
}
T, B, I, H = 6, 3, 5, 4


@pytest.fixture(params=PAIRS.values(), ids=PAIRS.keys())
def make(request: pytest.FixtureRequest) -> Callable[..., tuple[nn.Module, nn.RNNBase]]:
    """Makes our layer and torch's from the same seed."""

    def pair(*sizes: int, **options: Any) -> tuple[nn.Module, nn.RNNBase]:
        made = []
        for kind in request.param:
            torch.manual_seed(0)
            made.append(kind(*(sizes or (I, H)), **options))
        return made[0], made[1]

    return pair


def flat(value: Any) -> Iterator[Tensor]:
    """The floating tensors of a call's arguments or results, one after the other."""
    if isinstance(value, PackedSequence):
        yield value.data
    elif isinstance(value, Tensor):
        yield from [value] if value.is_floating_point() else []
    elif isinstance(value, tuple | list):
        for part in value:
            yield from flat(part)


def leaves(value: Any, dtype: torch.dtype) -> Any:
    """The same with every floating tensor a leaf of another dtype, which takes gradients."""
    if isinstance(value, PackedSequence):
        return value._replace(data=leaves(value.data, dtype))
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.detach().to(dtype).requires_grad_()
    return type(value)(leaves(part, dtype) for part in value) if isinstance(value, tuple | list) else value


@pytest.fixture
def run() -> Callable[..., list[Tensor]]:
    """All results of a call in that dtype, and every gradient, of cotangents that depend on shapes alone."""

    def of(module: nn.Module, *args: Any, dtype: torch.dtype, by: Any = None, **options: Any) -> list[Tensor]:
        module = copy.deepcopy(module).to(dtype)
        args = leaves(args, dtype)
        results = list(flat((by or module.__call__)(*([module] if by else []), *args, **options)))
        generator = torch.Generator().manual_seed(1)
        cotangents = [torch.randn(y.shape, generator=generator).to(dtype) for y in results]
        wanted = [*flat(args), *module.parameters()]
        gradients = torch.autograd.grad(results, wanted, cotangents, allow_unused=True, materialize_grads=True)
        return [*results, *gradients]

    return of


@pytest.fixture
def states() -> Callable[..., Any]:
    """An hx as the module takes it, random, for that many rows; None for a single sequence."""

    def of(module: nn.Module, rows: int | None = B, **options: Any) -> Any:
        batch = [] if rows is None else [rows]
        both = [
            torch.randn(len(module.all_weights), *batch, size, **options)
            for size in (module.proj_size or module.hidden_size, module.hidden_size)
        ]
        return tuple(both) if isinstance(module, LSTM | nn.LSTM) else both[0]

    return of
