"""What holds for every recurrent layer: it does what torch's does, with torch as the witness."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.parametrizations import weight_norm

# The witness says so of itself, once a process.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

Agree = Callable[[Tensor, Tensor], None]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"bias": False},
    {"bidirectional": True, "batch_first": True},
    {"num_layers": 3, "batch_first": True},
    {"num_layers": 2, "bidirectional": True},
    {"num_layers": 2, "bidirectional": True, "bias": False},
]
T, B, I, H = 6, 3, 5, 4


def tensors(result: Any) -> list[Tensor]:
    """The output and states of a call, as a flat list."""
    return [result] if isinstance(result, Tensor) else [tensor for part in result for tensor in tensors(part)]


@pytest.mark.parametrize("given", [False, True], ids=["no states", "states"])
@pytest.mark.parametrize("single", [False, True], ids=["batch", "single"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_results_and_gradients(
    make: Any, states: Any, run: Any, options: dict[str, Any], single: bool, given: bool, agree: Agree
) -> None:
    ours, torchs = make(**options)
    batch = [] if single else [B]
    input = torch.randn(*batch, T, I) if options.get("batch_first") else torch.randn(T, *batch, I)
    args = (input, states(ours, None if single else B)) if given else (input,)
    want = run(torchs, *args, dtype=torch.float64)
    for dtype in (torch.float32, torch.float64):
        for mine, witness in zip(run(ours, *args, dtype=dtype), want, strict=True):
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
    assert Path(ours.filename) == Path(__file__).with_name("conftest.py")  # where `make` makes it


def test_copies_compute_the_same(make: Any) -> None:
    ours, _ = make(num_layers=2, bidirectional=True)
    input = torch.randn(T, B, I)
    for twin in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert torch.equal(twin(input)[0], ours(input)[0])
        twin.reset_parameters()
        assert not torch.equal(twin(input)[0], ours(input)[0])


def test_weights_may_be_parametrized(make: Any, run: Any, agree: Agree) -> None:
    ours, torchs = (weight_norm(module, "weight_hh_l0") for module in make())
    for module in (ours, torchs):
        module.parametrizations.weight_hh_l0.original0.data.mul_(2)
    input = torch.randn(T, B, I)
    got, want = run(ours, input, dtype=torch.float32), run(torchs, input, dtype=torch.float64)
    for mine, witness in zip(got, want, strict=True):
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
    assert ours(torch.empty(T, B, I, device="meta"))[0].shape == (T, B, ours.proj_size or H)
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


AUTOCAST = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


@pytest.mark.parametrize("dtype", AUTOCAST, ids=str)
def test_autocast_computes_in_its_precision(make: Any, states: Any, dtype: torch.dtype, agree: Agree) -> None:
    """As torch does for its LSTM: bfloat16 of float32 weights; float64 stays."""
    ours, torchs = make(num_layers=2, bidirectional=True)
    ours, input, hx = ours.to(dtype), torch.randn(T, B, I), states(ours)
    with torch.autocast("cpu", torch.bfloat16):
        results = tensors(ours(input.to(dtype), hx))
    for mine, witness in zip(results, tensors(torchs(input, hx)), strict=True):
        assert mine.dtype == (torch.float64 if dtype is torch.float64 else torch.bfloat16)
        agree(mine.bfloat16(), witness.double())
    results[0].float().square().sum().backward()
    torchs(input, hx)[0].square().sum().backward()
    for mine, witness in zip(ours.parameters(), torchs.parameters(), strict=True):
        assert mine.grad.dtype == dtype
        agree(mine.grad.bfloat16(), witness.grad)
