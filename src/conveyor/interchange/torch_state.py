"""Recurrent layers of torch's state dicts, in safetensors.

Names and shapes do not tell what 3 H rows are, nor activations and bounds. The metadata of a file written here do,
under `conveyor.cells`: as JSON, the cell of each layer by its name, as `Variant.cell` says it.
"""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from conveyor.errors import ConveyorError
from conveyor.interchange import modules
from conveyor.interchange.layers import KINDS, Layer, Layers, distinct, natural, reading
from conveyor.nn import GRU, LSTM, RNN
from conveyor.variant import Variant

NAME = re.compile(r"(?P<layer>(?:.*\.)?)(?P<weight>[^.]+_l[0-9]+(?:_reverse)?)", re.DOTALL)
TORCHS = ("weight_ih_l", "weight_hh_l", "weight_hr_l", "bias_ih_l", "bias_hh_l")
FIELDS = {"weight_ch_l0": "peepholes", "weight_gh_l0": "gate_recurrence", "norm_ih_l0": "layer_norm"}
"""Of a variant, by the tensors that show it."""
CELLS = "conveyor.cells"
PLAIN: dict[str, Any] = {"lstm": LSTM, "gru": GRU, "rnn_tanh": RNN, "rnn_relu": partial(RNN, nonlinearity="relu")}


def read(path: Path) -> Layers:
    """Every LSTM, GRU and RNN, as the metadata say or else as the tensors do; what neither says is as in torch."""
    weights: dict[str, dict[str, Tensor]] = {}
    with reading(path, "safetensors"), safe_open(path, framework="pt") as stream:
        names = [match for name in stream.keys() if (match := NAME.fullmatch(name))]  # noqa: SIM118
        recurrent = {match["layer"] for match in names if match["weight"].startswith(TORCHS)}
        for match in names:
            if match["layer"] in recurrent:
                weights.setdefault(match["layer"], {})[match["weight"]] = stream.get_tensor(match[0])
        cells = json.loads((stream.metadata() or {}).get(CELLS, "{}"))
    if not isinstance(cells, dict) or not all(isinstance(cell, str) for cell in cells.values()):
        raise ConveyorError(f"[import] {path}: metadata: {CELLS}: expected an object of texts, got {cells!r:.60}")
    found: Layers = {}
    places = {name: n for n, name in enumerate(cells)}
    for prefix in sorted(weights, key=lambda prefix: (places.get(prefix[:-1], len(places)), natural(prefix))):
        name = prefix[:-1] or "lstm"
        one = _layer(f"{path}: {prefix[:-1] or 'the layer'}", weights[prefix], cells.get(name))
        found[distinct(name, len(found), found)] = one
    return found


def _layer(where: str, weights: dict[str, Tensor], cell: str | None) -> Layer:
    for name in ("weight_ih_l0", "weight_hh_l0", *(["weight_hr_l0"] if "weight_hr_l0" in weights else [])):
        if name not in weights or weights[name].dim() != 2 or 0 in weights[name].shape:
            raise ConveyorError(f"[import] {where}: {name}: expected a matrix, got {_shape(weights, name)}")
    for name, tensor in weights.items():
        if not tensor.is_floating_point():
            raise ConveyorError(f"[import] {where}: {name}: expected floating numbers, got {tensor.dtype}")
    w_ih, w_hh, w_hr = weights["weight_ih_l0"], weights["weight_hh_l0"], weights.get("weight_hr_l0")
    H = (w_hh if w_hr is None else w_hr).shape[1]
    options: dict[str, Any] = {"bias": "bias_ih_l0" in weights, "bidirectional": "weight_ih_l0_reverse" in weights}
    if w_hr is not None:
        options["proj_size"] = len(w_hr)
    layers = _count(where, weights)
    try:
        with torch.device("meta"):
            found = _made(cell or _cell(where, weights, len(w_ih), len(w_hh), H), w_ih.shape[1], H, layers, **options)
    except (ValueError, TypeError, RecursionError) as error:
        raise ConveyorError(f"[import] {where}: {error}") from None
    _check_shapes(where, weights, found.state_dict())
    found.load_state_dict({one: tensor.float() for one, tensor in weights.items()}, assign=True)
    return found.eval()


def _check_shapes(where: str, weights: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    wrong = [
        f"{name}: expected {_shape(expected, name)}, got {_shape(weights, name)}"
        for name in sorted({*expected, *weights})
        if _shape(expected, name) != _shape(weights, name)
    ]
    if wrong:
        raise ConveyorError(f"[import] {where}: {'; '.join(wrong[:5])}")


def _shape(weights: dict[str, Tensor], name: str) -> str:
    return str([*weights[name].shape]) if name in weights else "none"


def _count(where: str, weights: dict[str, Tensor]) -> int:
    """How many layers: numbered from 0 without a gap, each with tensors of the same names."""
    parts = [name.rpartition("_l") for name in weights]
    first = [(stem, end[1:]) for stem, _, end in parts if end in ("0", "0_reverse")]
    layers = -(-len(weights) // len(first))
    expected = {f"{stem}_l{n}{side}" for n in range(layers) for stem, side in first}
    for wrong, got in ((weights.keys() - expected, ""), (expected - weights.keys(), ", got none")):
        if wrong:
            raise ConveyorError(
                f"[import] {where}: {min(wrong)}: expected layers numbered from 0 without a gap, each with the tensors "
                f"of the first{got}"
            )
    return layers


def _cell(where: str, weights: dict[str, Tensor], rows: int, others: int, H: int) -> str:
    """What the tensors alone say it is: 3 H rows are a GRU, unless something stands beside them that none has."""
    if rows / H not in KINDS or rows != others:
        raise ConveyorError(f"[import] {where}: expected 4 H, 3 H or H rows over {H} units, got {rows} and {others}")
    own = [name for name in (*FIELDS, "weight_hr_l0") if name in weights]
    if own and rows != 4 * H:
        raise ConveyorError(
            f"[import] {where}: {own[0]}: expected 4 H = {4 * H} rows of an LSTM beside it, got {rows}, which do not "
            "say what gates there are; write it by conveyor.interchange.layers.to_bytes, which does"
        )
    fields: dict[str, Any] = {FIELDS[name]: True for name in own if name in FIELDS}
    return {3: "gru", 1: "rnn_tanh"}.get(rows // H) or Variant(**fields).cell


def _made(cell: str, *sizes: Any, **options: Any) -> Layer:
    variant = Variant.of_cell(cell)
    if variant is None and cell not in PLAIN:
        raise ValueError(f"expected a cell of {', '.join(PLAIN)} or a variant, got {cell!r:.60}")
    found: Layer = LSTM(*sizes, variant=variant, **options) if variant else PLAIN[cell](*sizes, **options)
    return found


def to_bytes(layers: Layers) -> bytes:
    """A state dict: each layer's parameters behind its name; and in the metadata what the layers are."""
    tensors = {
        f"{name}.{one}": weight.detach().cpu().clone()
        for name, layer in layers.items()
        for one, weight in layer.state_dict().items()
    }
    cells = {name: modules.cell(layer) for name, layer in layers.items()}
    return save(tensors, {CELLS: json.dumps(cells, ensure_ascii=False)})


def unsaid(layers: Layers) -> list[str]:
    """The layers of which names and shapes do not say what they are, or which torch has not."""
    return [name for name, layer in layers.items() if modules.cell(layer) not in ("lstm", "gru", "rnn_tanh")]
