"""torch's recurrent modules exchanged for Conveyor's inside any model, and back."""

import weakref
from typing import TypeVar

from torch import nn
from torch.nn.utils.parametrize import is_parametrized, register_parametrization, type_before_parametrizations

from conveyor.nn.cells import GRUCell, LSTMCell, RNNCell
from conveyor.nn.gru import GRU
from conveyor.nn.lstm import LSTM
from conveyor.nn.rnn import RNN

Kinds = dict[type[nn.Module], type[nn.Module]]
Module = TypeVar("Module", bound=nn.Module)

OURS: Kinds = {
    nn.LSTM: LSTM, nn.GRU: GRU, nn.RNN: RNN, nn.LSTMCell: LSTMCell, nn.GRUCell: GRUCell, nn.RNNCell: RNNCell,
}  # fmt: skip
TORCHS: Kinds = {ours: torchs for torchs, ours in OURS.items()}

_OPTIONS = ["input_size", "hidden_size", "bias"]
_LAYER = ["num_layers", "batch_first", "bidirectional"]
_OWN = {LSTM: [*_LAYER, "proj_size"], GRU: _LAYER, RNN: [*_LAYER, "nonlinearity"], RNNCell: ["nonlinearity"]}
# What each side keeps for itself, and makes anew on the other.
_INTERNAL = {
    "mode", "_all_weights", "_flat_weights", "_flat_weights_names", "_flat_weight_refs",
    "_weights", "_directions", "_cells", "_variant", "_variants", "forget_bias", "checkpoint_every", "variant",
}  # fmt: skip


def replace(model: nn.Module) -> nn.Module:
    """Every torch LSTM, GRU, RNN and cell of these inside a model becomes Conveyor's; the model itself, if it is one.

    The model is changed in place and returned; a model that is itself such a module is left as it is, and its
    twin returned. Parameters and buffers are the very same objects, so that optimizers go on; parametrizations,
    hooks, attributes, the training flag and a module that stands in several places are kept. Subclasses of
    torch's modules are left alone: they may compute something else. Two things cannot be seen from here: modules
    that a model keeps outside of torch's registry, in a plain list for instance, and hooks that hold the old module.

    >>> import torch
    >>> model = nn.Sequential(nn.Embedding(10, 3), nn.LSTM(3, 4))
    >>> replace(model)
    Sequential(
      (0): Embedding(10, 3)
      (1): LSTM(3, 4)
    )
    >>> type(model[1]).__module__, type(restore(model)[1]).__module__
    ('conveyor.nn.lstm', 'torch.nn.modules.rnn')
    """
    return _exchange(_checked("replace", model), OURS, {})


def restore(model: nn.Module) -> nn.Module:
    """The way back: every Conveyor module that torch has becomes torch's, as `replace` does it.

    What torch's modules have no place for is left behind: `forget_bias` (the parameters keep their values) and
    `checkpoint_every`; and calls with lengths, resets or return_gates are no longer understood.

    >>> from conveyor import GRU
    >>> type(restore(GRU(3, 4))).__module__
    'torch.nn.modules.rnn'
    """
    for name, module in _checked("restore", model).named_modules():
        if isinstance(module, LSTM) and module._variant is not None:
            where = f" at {name!r}" if name else ""
            raise ValueError(f"restore: the LSTM{where} has variant={module.variant!r}, which torch's has not")
    return _exchange(model, TORCHS, {})


def _checked(where: str, model: nn.Module) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise TypeError(f"[{where}] model: expected a torch.nn.Module, got {type(model).__name__}")
    return model


def twin(module: nn.Module, kind: type[Module]) -> Module:
    """The same module as the other kind: the same parameters, options, hooks and whatever else it carries."""
    names = [*_OPTIONS, *_OWN.get(kind if kind in TORCHS else OURS[kind], [])]
    made = kind(**{name: getattr(module, name) for name in names}, device="meta")
    _carry_parametrizations(module, made)
    for name in set(made._parameters) - set(module._parameters):  # weight_norm of old has taken it away
        delattr(made, name)
    for name, parameter in module._parameters.items():
        setattr(made, name, parameter)
    for name, buffer in module._buffers.items():
        made.register_buffer(name, buffer, name not in module._non_persistent_buffers_set)
    for name, child in module._modules.items():
        if name != "parametrizations":
            made.add_module(name, child)
    _carry_attributes(module, made)
    return made


def _carry_parametrizations(module: nn.Module, made: nn.Module) -> None:
    if not is_parametrized(module):
        return
    assert isinstance(module.parametrizations, nn.ModuleDict)
    for name, parametrization in module.parametrizations.items():
        register_parametrization(made, name, nn.Identity(), unsafe=True)  # makes the property
        assert isinstance(made.parametrizations, nn.ModuleDict)
        made.parametrizations[name] = parametrization


def _carry_attributes(module: nn.Module, made: nn.Module) -> None:
    for name, value in vars(module).items():
        # The very dicts of hooks: a handle that removes its hook looks for it there.
        if "hook" in name or name in ("training", "dropout") or name not in vars(made).keys() | _INTERNAL:
            vars(made)[name] = value
    for hook in vars(made)["_load_state_dict_pre_hooks"].values():
        if hook.with_module:
            hook.module = weakref.ref(made)


def _exchange(module: nn.Module, kinds: Kinds, done: dict[nn.Module, nn.Module]) -> nn.Module:
    """The module, or its twin, with all that is inside exchanged; `done` knows what stands in several places."""
    if module in done:
        return done[module]
    kind = kinds.get(type_before_parametrizations(module))
    done[module] = made = module if kind is None else twin(module, kind)
    for name, child in list(made._modules.items()):
        if child is not None and (new := _exchange(child, kinds, done)) is not child:
            made._modules[name] = new
    return made
