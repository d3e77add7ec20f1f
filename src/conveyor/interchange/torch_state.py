"""Recurrent layers of torch's state dicts, in safetensors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from conveyor.errors import ConveyorError
from conveyor.interchange.layers import KINDS, Layer, Layers
from conveyor.nn import GRU, LSTM, RNN

NAME = re.compile(r"(?:(?P<layer>.*)\.)?(?P<weight>(?:weight_(?:ih|hh|hr)|bias_(?:ih|hh))_l\d+(?:_reverse)?)")


def read(path: Path) -> Layers:
    """Every LSTM, GRU and RNN that the names of the tensors tell of; what an RNN's activation is they do not: tanh."""
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ConveyorError(f"[import] {path}: expected safetensors, but {error}") from None
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if match := NAME.fullmatch(name):
            found.setdefault(match["layer"] or "", {})[match["weight"]] = tensor
    return {name or "lstm": _layer(path, name, weights) for name, weights in found.items()}


def _layer(path: Path, name: str, weights: dict[str, Tensor]) -> Layer:
    w_ih, w_hh = (weights.get(f"weight_{part}_l0") for part in ("ih", "hh"))
    if w_ih is None or w_hh is None or w_ih.dim() != 2 or w_hh.dim() != 2:
        raise ConveyorError(
            f"[import] {path}: {name or 'the layer'}: expected weight_ih_l0 and weight_hh_l0, matrices both"
        )
    w_hr = weights.get("weight_hr_l0")
    H = w_hh.shape[1] if w_hr is None else w_hr.shape[-1]
    gates = len(w_ih) // H if H and len(w_ih) % H == 0 else 0
    kinds: dict[str, Any] = {"LSTM": LSTM, "GRU": GRU, "RNN": RNN}
    if gates not in KINDS or len(w_hh) != len(w_ih):
        raise ConveyorError(
            f"[import] {path}: {name or 'the layer'}: expected 4 H, 3 H or H rows over {H} units, "
            f"got {len(w_ih)} and {len(w_hh)}"
        )
    layers = 1 + max(int(weight.removesuffix("_reverse").rpartition("_l")[2]) for weight in weights)
    projected = {} if w_hr is None else {"proj_size": len(w_hr)}
    with torch.device("meta"):
        found: Layer = kinds[KINDS[gates]](
            w_ih.shape[1],
            H,
            layers,
            bias="bias_ih_l0" in weights,
            bidirectional="weight_ih_l0_reverse" in weights,
            **projected,
        )
    expected = found.state_dict()
    if sorted(expected) != sorted(weights) or any(expected[one].shape != weights[one].shape for one in expected):
        wrong = sorted({*expected} ^ {*weights}) or [
            one for one in expected if expected[one].shape != weights[one].shape
        ]
        raise ConveyorError(
            f"[import] {path}: {name or 'the layer'}: missing, not known or of another shape: {', '.join(wrong[:5])}"
        )
    found.load_state_dict({one: tensor.float() for one, tensor in weights.items()}, assign=True)
    return found.eval()


def to_bytes(layers: Layers) -> bytes:
    """A state dict: each layer's parameters behind its name."""
    return save(
        {
            f"{name}.{one}": weight.detach().cpu().clone()
            for name, layer in layers.items()
            for one, weight in layer.state_dict().items()
        }
    )
