"""The LSTM operator of ONNX, with peepholes, coupled gates, clip and activations: the same numbers."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from conveyor import LSTM, Variant

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'conveyor[dev]'")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'conveyor[dev]'")

NAMES = {  # of the activations, as ONNX writes them
    "Sigmoid": "sigmoid", "Tanh": "tanh", "Relu": "relu", "Softsign": "softsign", "Softplus": "softplus",
    "LeakyRelu": "leaky-relu", "ThresholdedRelu": "thresholded-relu", "Elu": "elu", "Affine": "affine",
    "ScaledTanh": "scaled-tanh", "HardSigmoid": "hard-sigmoid",
}  # fmt: skip
NUMBERS = {"LeakyRelu": 1, "ThresholdedRelu": 1, "Elu": 1, "Affine": 2, "ScaledTanh": 2, "HardSigmoid": 2}
INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")


def rows(w: Tensor, gates: str) -> Tensor:
    """From ONNX's order i, o, f, c to those of torch's i, f, g, o that there are."""
    parts = dict(zip("iofg", w.chunk(4), strict=True))
    return torch.cat([parts[gate] for gate in gates]).reshape(-1, *w.shape[1:])


def layer(attributes: dict[str, Any], given: dict[str, Tensor]) -> LSTM:
    """Ours, of an operator's attributes and inputs."""
    D, H, I = len(given["W"]), given["R"].shape[-1], given["W"].shape[-1]
    alphas, betas = list(attributes.get("activation_alpha", [])), list(attributes.get("activation_beta", []))
    squashes: list[Any] = []
    for name in attributes.get("activations", ["Sigmoid", "Tanh", "Tanh"])[:3]:
        numbers = NUMBERS.get(name, 0)
        squashes.append((NAMES[name], *([alphas.pop(0)] if numbers else []), *([betas.pop(0)] if numbers == 2 else [])))
    variant = Variant(
        peepholes="P" in given, coupled=bool(attributes.get("input_forget", 0)), clip=attributes.get("clip"),
        gate_activation=squashes[0], input_activation=squashes[1], output_activation=squashes[2],
    )  # fmt: skip
    lstm, gates = LSTM(I, H, bidirectional=D == 2, variant=variant), "".join(variant.gates)
    state = {}
    for d, end in zip(range(D), ("l0", "l0_reverse"), strict=False):
        state |= {f"weight_ih_{end}": rows(given["W"][d], gates), f"weight_hh_{end}": rows(given["R"][d], gates)}
        biases = given["B"][d].chunk(2) if "B" in given else [torch.zeros(4 * H)] * 2
        state |= {f"bias_ih_{end}": rows(biases[0], gates), f"bias_hh_{end}": rows(biases[1], gates)}
        if "P" in given:
            peepholes = dict(zip("iof", given["P"][d].chunk(3), strict=True))
            state[f"weight_ch_{end}"] = torch.cat([peepholes[gate] for gate in gates if gate != "g"])
    lstm.load_state_dict(state)
    return lstm


def run(attributes: dict[str, Any], given: dict[str, Tensor]) -> list[Tensor]:
    """Y [T, D, B, H], Y_h and Y_c."""
    lstm, first = layer(attributes, given), attributes.get("layout", 0) == 1
    x = given["X"].transpose(0, 1) if first else given["X"]
    states = [given.get(f"initial_{s}", torch.zeros(len(given["W"]), x.shape[1], lstm.hidden_size)) for s in "hc"]
    backward = attributes.get("direction") == "reverse"
    with torch.inference_mode():
        y, (h, c) = lstm(x.flip(0) if backward else x, (states[0], states[1]))
    y = y.flip(0) if backward else y
    y = y.unflatten(-1, (len(given["W"]), -1)).transpose(1, 2)
    return [y.permute(2, 0, 1, 3), h.transpose(0, 1), c.transpose(0, 1)] if first else [y, h, c]


def cases(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, list[np.ndarray], list[np.ndarray], str]]:
    """Those that the package brings for its LSTM."""
    from onnx.backend.test.case.node import lstm

    found = []
    monkeypatch.setattr(lstm, "expect", lambda node, inputs, outputs, name: found.append((node, inputs, outputs, name)))
    for name in dir(lstm.LSTM):
        if name.startswith("export"):
            getattr(lstm.LSTM, name)()
    return found


def test_the_cases_of_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    found = cases(monkeypatch)
    assert any("peephole" in name for *_, name in found)
    for node, inputs, outputs, _ in found:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        attributes = {key: value.decode() if isinstance(value, bytes) else value for key, value in attributes.items()}
        named = [name for name in node.input if name]
        given = {name: torch.from_numpy(value) for name, value in zip(named, inputs, strict=True)}
        got = dict(zip(("Y", "Y_h", "Y_c"), run(attributes, given), strict=True))
        for name, want in zip([name for name in node.output if name], outputs, strict=True):
            np.testing.assert_allclose(got[name].numpy(), want, rtol=1e-5, atol=1e-6)


ATTRIBUTES: dict[str, dict[str, Any]] = {
    "peepholes": {},
    "coupled": {"input_forget": 1},
    "clip": {"clip": 0.3},
    "relu": {"activations": ["HardSigmoid", "Relu", "Softsign"], "activation_alpha": [0.3], "activation_beta": [0.4]},
    "elu": {"activations": ["Sigmoid", "Elu", "LeakyRelu"], "activation_alpha": [0.7, 0.1]},
    "scaled": {
        "activations": ["Sigmoid", "ScaledTanh", "Affine"],
        "activation_alpha": [1.7, 0.8], "activation_beta": [0.6, 0.1],
    },
    "all": {"input_forget": 1, "clip": 0.5, "activations": ["Sigmoid", "Softsign", "Tanh"]},
}  # fmt: skip


@pytest.mark.parametrize("name", ATTRIBUTES)
@pytest.mark.parametrize("D", [1, 2])
def test_as_onnxruntime(name: str, D: int) -> None:
    torch.manual_seed(0)
    T, B, I, H = 6, 3, 5, 7
    attributes = ATTRIBUTES[name]
    given = {
        "X": torch.randn(T, B, I), "W": torch.randn(D, 4 * H, I), "R": torch.randn(D, 4 * H, H) / 3,
        "B": torch.randn(D, 8 * H), "initial_h": torch.randn(D, B, H) / 2, "initial_c": torch.randn(D, B, H) / 2,
        "P": torch.randn(D, 3 * H),
    }  # fmt: skip
    direction = "bidirectional" if D == 2 else "forward"
    repeated = {key: value * D if isinstance(value, list) else value for key, value in attributes.items()}
    node = onnx.helper.make_node(
        "LSTM",
        [n if n in given else "" for n in INPUTS],
        ["Y", "Y_h", "Y_c"],
        hidden_size=H,
        direction=direction,
        **repeated,
    )
    values = [onnx.helper.make_tensor_value_info(key, 1, value.shape) for key, value in given.items()]
    outputs = [onnx.helper.make_tensor_value_info(key, 1, None) for key in ("Y", "Y_h", "Y_c")]
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "lstm", values, outputs),
        opset_imports=[onnx.helper.make_opsetid("", 14)], ir_version=8,
    )  # fmt: skip
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = session.run(None, {key: value.numpy() for key, value in given.items()})
    for got, want in zip(run(attributes, given), wanted, strict=True):
        np.testing.assert_allclose(got.numpy(), want, rtol=2e-5, atol=2e-6)
