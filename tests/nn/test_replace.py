"""torch's modules exchanged for ours inside a model, and back."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

import conveyor
from conveyor import replace, restore

KINDS = ["LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell"]
T, B, I, H = 5, 3, 4, 4
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("LSTM", {"num_layers": 2, "dropout": 0.5, "bidirectional": True, "proj_size": 2}),
    ("LSTM", {"batch_first": True, "bias": False}),
    ("GRU", {"num_layers": 2, "batch_first": True, "bidirectional": True}),
    ("RNN", {"nonlinearity": "relu", "num_layers": 2, "bias": False}),
    ("LSTMCell", {"bias": False}),
    ("GRUCell", {}),
    ("RNNCell", {"nonlinearity": "relu"}),
]


class Model(nn.Module):
    """One of each, at several depths, one of them in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict({"deep": nn.ModuleList([nn.LSTM(I, H), nn.GRU(I, H)])})
        self.decoder = nn.Sequential(nn.RNN(I, H))
        self.cells = nn.ModuleList([nn.LSTMCell(I, H), nn.GRUCell(I, H), nn.RNNCell(I, H)])
        self.tied = self.encoder["deep"][0]

    def forward(self, x: Tensor) -> Tensor:
        x = self.tied(self.encoder["deep"][0](x)[0])[0]
        x = self.decoder(self.encoder["deep"][1](x)[0])[0]
        lstm, gru, rnn = self.cells
        return rnn(gru(lstm(x[-1])[0]))


def kinds(model: nn.Module) -> set[str]:
    found = (type(m) for m in model.modules() if type(m).__name__ in KINDS)
    return {f"{kind.__module__.split('.')[0]}.{kind.__name__}" for kind in found}


def test_all_inside_a_model() -> None:
    torch.manual_seed(0)
    model = Model()
    parameters, words, x = dict(model.named_parameters()), repr(model), torch.randn(T, B, I)
    want = model(x)
    assert replace(model) is model
    assert kinds(model) == {f"conveyor.{kind}" for kind in KINDS}
    assert repr(model) == words
    assert model.tied is model.encoder["deep"][0]
    torch.testing.assert_close(model(x), want)
    assert restore(model) is model
    assert kinds(model) == {f"torch.{kind}" for kind in KINDS}
    assert model.tied is model.encoder["deep"][0]
    torch.testing.assert_close(model(x), want)
    after = dict(model.named_parameters())
    assert list(after) == list(parameters)
    assert all(after[name] is parameters[name] for name in parameters)


@pytest.mark.parametrize(("kind", "options"), OPTIONS, ids=str)
def test_the_module_itself(kind: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    torchs = getattr(nn, kind)(I, H, **options).double().eval()
    ours = replace(torchs)
    assert type(ours) is getattr(conveyor, kind)
    assert type(torchs) is getattr(nn, kind)
    assert repr(ours) == repr(torchs)
    assert not ours.training
    back = restore(ours)
    assert type(back) is getattr(nn, kind)
    x = torch.randn(B, T, I).double() if "Cell" not in kind else torch.randn(B, I).double()
    for twin in (ours, back):
        assert all(a is b for a, b in zip(twin.parameters(), torchs.parameters(), strict=True))
        torch.testing.assert_close(twin(x), torchs(x))
        torch.testing.assert_close(copy.deepcopy(twin)(x), torchs(x))
        torch.testing.assert_close(pickle.loads(pickle.dumps(twin))(x), torchs(x))
        twin.load_state_dict(torchs.state_dict(), strict=True)


def test_an_optimizer_goes_on() -> None:
    torch.manual_seed(0)
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    replace(model)
    x = torch.randn(T, B, I)
    before = model(x).square().sum()
    before.backward()
    optimizer.step()
    assert model(x).square().sum() < before
    after = model(x)
    torch.testing.assert_close(restore(model)(x), after)


def test_nothing_is_drawn_and_nothing_warned_of() -> None:
    model = nn.Sequential(nn.LSTM(I, H, num_layers=2, dropout=0.5))
    model[0].num_layers, model[0].dropout = 2, 0.25
    state = torch.get_rng_state()
    replace(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert model[0].dropout == 0.25


def test_subclasses_are_left_alone() -> None:
    class Special(nn.LSTM):
        pass

    class Ours(conveyor.GRU):
        pass

    model = nn.Sequential(Special(I, H), Ours(I, H))
    special, ours = model
    assert list(replace(model)) == [special, ours]
    assert list(restore(model)) == [special, ours]


def test_hooks_and_what_else_a_module_carries() -> None:
    model = nn.Sequential(nn.LSTM(I, H))
    calls: list[str] = []
    handle = model[0].register_forward_hook(lambda module, args, result: calls.append(type(module).__module__))
    model[0].register_load_state_dict_pre_hook(lambda module, *args: calls.append(type(module).__module__))
    model[0].register_buffer("scale", torch.ones(2), persistent=False)
    model[0].note, model[0].extra = "mine", nn.Linear(2, 2)
    kept = model[0].scale, model[0].extra
    for change, home in [(replace, "conveyor.nn.lstm"), (restore, "torch.nn.modules.rnn")]:
        change(model)
        model(torch.randn(T, B, I))
        model.load_state_dict(model.state_dict())
        assert calls == [home] * 2
        assert (model[0].scale, model[0].extra, model[0].note) == (*kept, "mine")
        assert "0.scale" not in model.state_dict()
        calls.clear()
    handle.remove()
    model(torch.randn(T, B, I))
    assert not calls


@pytest.mark.parametrize("kind", ["LSTM", "GRUCell"])
def test_parametrized_modules(kind: str) -> None:
    torch.manual_seed(0)
    name = "weight_hh" if "Cell" in kind else "weight_hh_l0"
    model = nn.Sequential(weight_norm(getattr(nn, kind)(I, H), name))
    parameters, x = dict(model.named_parameters()), torch.randn(B, I)
    model[0].parametrizations[name].original0.data.mul_(2)
    want = model(x)
    for change in (replace, restore):
        change(model)
        torch.testing.assert_close(model(x), want)
        after = dict(model.named_parameters())
        assert list(after) == list(parameters)
        assert all(after[key] is parameters[key] for key in parameters)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
def test_weight_norm_of_old() -> None:
    """It hooks the call, and keeps the weight that it makes as an attribute."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.utils.weight_norm(nn.LSTM(I, H), "weight_hh_l0"))
    x = torch.randn(T, B, I)
    model[0].weight_hh_l0_g.data.mul_(2)
    want = model(x)
    replace(model)
    torch.testing.assert_close(model(x), want)
    model(x)[0].sum().backward()
    assert model[0].weight_hh_l0_g.grad is not None


@pytest.mark.parametrize("exchange", [replace, restore])
def test_what_is_no_module(exchange: Any) -> None:
    with pytest.raises(TypeError, match=rf"^\[{exchange.__name__}\] model: expected a torch\.nn\.Module, got str$"):
        exchange("abc")


@pytest.mark.parametrize("options", [{"forget_bias": 1.0}, {"variant": "forget-bias"}])
def test_a_forget_bias_is_left_behind(options: dict[str, Any]) -> None:
    """It is a way to begin; the parameters keep their values."""
    torch.manual_seed(0)
    ours, x = conveyor.LSTM(I, H, **options), torch.randn(T, B, I)
    torchs = restore(ours)
    assert type(torchs) is nn.LSTM
    assert torchs.bias_ih_l0[H : 2 * H].tolist() == [1] * H
    torch.testing.assert_close(torchs(x)[0], ours(x)[0])
