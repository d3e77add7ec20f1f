"""What holds for every recurrent layer: it does what torch's does, with torch as the witness."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.parametrizations import weight_norm

from conveyor.nn import LSTM, RNN

Agree = Callable[[Tensor, Tensor], None]
PAIRS = [(LSTM, nn.LSTM), (RNN, nn.RNN)]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"bias": False},
    {"bidirectional": True, "batch_first": True},
    {"num_layers": 3, "batch_first": True},
    {"num_layers": 2, "bidirectional": True},
    {"num_layers": 2, "bidirectional": True, "bias": False},
]
T, B, I, H = 6, 3, 5, 4


@pytest.fixture(params=PAIRS, ids=["LSTM", "RNN"])
def make(request: pytest.FixtureRequest) -> Callable[..., tuple[nn.Module, nn.RNNBase]]:
    """Makes our layer and torch's from the same seed."""

    def pair(*sizes: int, **options: Any) -> tuple[nn.Module, nn.RNNBase]:
        made = []
        for kind in request.param:
            torch.manual_seed(0)
            made.append(kind(*(sizes or (I, H)), **options))
        return made[0], made[1]

    return pair


def states(module: nn.Module, *shape: int, **options: Any) -> Any:
    """An hx as the module takes it, of that shape."""
    tensors = [torch.randn(shape, **options) for _ in range(2)]
    return (tensors[0], tensors[1]) if isinstance(module, LSTM | nn.LSTM) else tensors[0]


def tensors(result: Any) -> list[Tensor]:
    """The output and states of a call, or an hx, as a flat list."""
    if isinstance(result, Tensor):
        return [result]
    return [tensor for part in result for tensor in tensors(part)]


def converted(hx: Any, dtype: torch.dtype) -> Any:
    """hx as leaves of another dtype."""
    if isinstance(hx, tuple):
        return tuple(converted(state, dtype) for state in hx)
    return hx if hx is None else hx.detach().to(dtype).requires_grad_()


def run(module: nn.Module, input: Tensor, hx: Any, dtype: torch.dtype, **compile: Any) -> list[Tensor]:
    """Output, states and every gradient, in that dtype, for cotangents that depend on nothing but the shapes."""
    module = copy.deepcopy(module).to(dtype)
    call = torch.compile(module, **compile) if compile else module
    input, hx = converted(input, dtype), converted(hx, dtype)
    results = tensors(call(input, hx))
    generator = torch.Generator().manual_seed(1)
    cotangents = [torch.randn(y.shape, generator=generator).to(dtype) for y in results]
    inputs = [input, *([] if hx is None else tensors(hx)), *module.parameters()]
    return [*results, *torch.autograd.grad(results, inputs, cotangents)]


@pytest.mark.parametrize("given", [False, True], ids=["no states", "states"])
@pytest.mark.parametrize("single", [False, True], ids=["batch", "single"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_results_and_gradients(make: Any, options: dict[str, Any], single: bool, given: bool, agree: Agree) -> None:
    ours, torchs = make(**options)
    batch = [] if single else [B]
    input = torch.randn(*batch, T, I) if options.get("batch_first") else torch.randn(T, *batch, I)
    hx = states(ours, len(ours.all_weights), *batch, H) if given else None
    for mine, witness in zip(run(ours, input, hx, torch.float32), run(torchs, input, hx, torch.float64), strict=True):
        agree(mine, witness)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_every_dtype(make: Any, dtype: torch.dtype, agree: Agree) -> None:
    ours, torchs = make(num_layers=2, bidirectional=True)
    ours, torchs, input = ours.to(dtype), torchs.to(dtype).double(), torch.randn(T, B, I).to(dtype)
    for mine, witness in zip(tensors(ours(input)), tensors(torchs(input.double())), strict=True):
        assert mine.dtype == dtype
        agree(mine, witness)


@pytest.mark.parametrize("options", [*OPTIONS, {"num_layers": 2, "dropout": 0.25}], ids=str)
def test_parameters(make: Any, options: dict[str, Any]) -> None:
    """Names, order, layout and the numbers drawn; the same words from repr; state dicts both ways."""
    ours, torchs = make(**options)
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in torchs.named_parameters()]
    assert all(map(torch.equal, ours.parameters(), torchs.parameters()))
    for mine, theirs in zip(ours.all_weights, torchs.all_weights, strict=True):
        assert all(map(torch.equal, mine, theirs))
    assert repr(ours) == repr(torchs)
    for source, target in [(ours, torchs), (torchs, ours)]:
        source.reset_parameters()
        target.load_state_dict(source.state_dict(), strict=True)
        assert all(map(torch.equal, ours.parameters(), torchs.parameters()))


@pytest.mark.parametrize("rate", [0.4, 1.0])
def test_dropout_falls_between_layers_in_training_alone(make: Any, rate: float, agree: Agree) -> None:
    ours, torchs = make(num_layers=3, dropout=rate)
    input = torch.randn(T, B, I)
    results = []
    for module in (ours, torchs):
        torch.manual_seed(3)
        results.append(tensors(module(input)))
    for mine, witness in zip(*results, strict=True):
        agree(mine, witness)
    for mine, witness in zip(tensors(ours.eval()(input)), tensors(torchs.eval()(input)), strict=True):
        agree(mine, witness)
    assert not torch.allclose(results[0][0], ours(input)[0])


def test_dropout_with_one_layer_is_warned_of(make: Any) -> None:
    with pytest.warns(UserWarning, match="non-zero dropout expects num_layers greater than 1") as caught:
        make(dropout=0.5)
    ours, torchs = caught
    assert str(ours.message) == str(torchs.message)
    assert ours.filename == __file__


def test_copies_compute_the_same(make: Any) -> None:
    ours, _ = make(num_layers=2, bidirectional=True)
    input = torch.randn(T, B, I)
    for twin in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert torch.equal(twin(input)[0], ours(input)[0])
        twin.reset_parameters()
        assert not torch.equal(twin(input)[0], ours(input)[0])


def test_weights_may_be_parametrized(make: Any, agree: Agree) -> None:
    ours, torchs = (weight_norm(module, "weight_hh_l0") for module in make())
    for module in (ours, torchs):
        module.parametrizations.weight_hh_l0.original0.data.mul_(2)
    input = torch.randn(T, B, I)
    for mine, witness in zip(
        run(ours, input, None, torch.float32), run(torchs, input, None, torch.float64), strict=True
    ):
        agree(mine, witness)


def test_weights_may_be_replaced(make: Any, agree: Agree) -> None:
    ours, torchs = make()
    input = torch.randn(T, B, I)
    twice = {name: parameter * 2 for name, parameter in torchs.named_parameters()}
    want = functional_call(torchs, twice, (input,))[0]
    agree(functional_call(ours, twice, (input,))[0], want)
    ours.weight_ih_l0 = nn.Parameter(twice["weight_ih_l0"].detach())
    assert not torch.allclose(ours(input)[0], torchs(input)[0])


def test_made_without_memory_or_numbers(make: Any) -> None:
    ours, _ = make(device="meta")
    assert ours(torch.empty(T, B, I, device="meta"))[0].shape == (T, B, H)
    skipped = nn.utils.skip_init(type(ours), I, H, num_layers=2)
    skipped.reset_parameters()
    assert skipped(torch.randn(T, B, I))[0].isfinite().all()


def test_an_empty_batch_gives_empty_results(make: Any) -> None:
    ours, torchs = make(num_layers=2, bidirectional=True)
    input = torch.randn(T, 0, I, requires_grad=True)
    results = tensors(ours(input))
    assert [y.shape for y in results] == [y.shape for y in tensors(torchs(input))]
    results[0].sum().backward()
    assert input.grad is not None
    assert not ours.weight_hh_l1_reverse.grad.any()


def test_compiles_to_one_graph(make: Any, agree: Agree) -> None:
    ours, _ = make(num_layers=2, bidirectional=True, batch_first=True)
    for hx in (None, states(ours, 4, B, H)):
        input = torch.randn(B, T, I)
        got = run(ours, input, hx, torch.float32, fullgraph=True, backend="aot_eager")
        for mine, witness in zip(got, run(ours, input, hx, torch.float64), strict=True):
            agree(mine, witness)


def test_autocast_keeps_the_precision_of_the_weights(make: Any, agree: Agree) -> None:
    ours, torchs = make()
    input, hx = torch.randn(T, B, I), states(ours, 1, B, H)
    with torch.autocast("cpu", torch.bfloat16):
        output = ours(input, hx)[0]
        rounded = ours(input.bfloat16(), hx)[0]
    agree(output, torchs.double()(input.double(), converted(hx, torch.float64))[0])
    assert rounded.dtype == torch.float32
