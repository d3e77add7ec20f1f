"""The kernels of the variants against their equations: each alone, each pair that combines, every way of calling."""

from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor

from conveyor import VARIANTS, Variant, ops
from conveyor.equations import Weights
from conveyor.ops.cells import by_direction, flat

DIFFERENCES: dict[str, dict[str, Any]] = {
    "no input gate": {"input_gate": False},
    "no forget gate": {"forget_gate": False},
    "no output gate": {"output_gate": False},
    "coupled": {"coupled": True},
    "peepholes": {"peepholes": True},
    "gate recurrence": {"gate_recurrence": True},
    "layer norm": {"layer_norm": True},
    "gates": {"gate_activation": "hard-sigmoid"},
    "candidate": {"input_activation": ("scaled-tanh", 2.0, 0.5)},
    "belt": {"output_activation": "softsign"},
    "clip": {"clip": 0.6},
    "cell clip": {"cell_clip": 0.4},
    "projection": {"proj_clip": 0.3},
    "recurrent dropout": {"recurrent_dropout": 0.2},
    "variational dropout": {"variational_dropout": 0.2},
    "zoneout of the cell": {"zoneout_cell": 0.3},
    "zoneout of the output": {"zoneout_hidden": 0.3},
}
ACTIVATIONS = [
    "sigmoid", "tanh", "identity", "relu", "softsign", "softplus", ("leaky-relu", 0.1), ("thresholded-relu", 0.3),
    ("elu", 0.7), ("affine", 0.8, 0.1), ("scaled-tanh", 1.2, 0.7), ("hard-sigmoid", 0.3, 0.4),
]  # fmt: skip
WAYS = ["", "lengths resets", "reverse", "lengths resets reverse", "every", "lengths every reverse"]


def combined(*names: str) -> Variant | None:
    try:
        return Variant(**{key: value for name in names for key, value in DIFFERENCES[name].items()})
    except ValueError:
        return None


PAIRS = {
    f"{a}, {b}": variant
    for a, b in combinations(DIFFERENCES, 2)
    if (variant := combined(a, b)) and not (variant.proj_clip and variant.zoneout_hidden)
}


def problem(variant: Variant, T: int, B: int, I: int, H: int, D: int) -> list[Tensor | None]:
    """Input, states, noise and the weights of each direction; a projection where its bound is asked for."""
    P = max(1, H // 2) if variant.proj_clip else H
    rows, R = len(variant.gates) * H, P + variant.gate_recurrence * len(variant.doors) * H
    noise = torch.rand(D, T, B, len(variant.noise), H) if variant.noise else None
    shapes = [(rows, I), (rows, P), (rows,), (rows,), *([(P, H)] if variant.proj_clip else [])]
    shapes += [shape for _, shape in variant.extras(H).values()]
    weights = [torch.randn(s) / s[-1] ** 0.5 if len(s) > 1 else torch.randn(s) * 0.5 for _ in range(D) for s in shapes]
    return [noise, torch.randn(T, B, I), torch.randn(D, B, R) / 2, torch.randn(D, B, H) / 2, *weights]


def solve(variant: Variant, given: list[Tensor | None], dtype: torch.dtype, **options: Any) -> list[Tensor]:
    """Every result and every gradient, for cotangents that depend on nothing but the shapes."""
    noise, *tensors = given
    leaves = [t.detach().to(dtype).requires_grad_() for t in tensors if t is not None]
    input, h_0, c_0, *weights = leaves
    named = by_direction(variant.cell, weights, len(h_0))
    done = ops.layer(variant.cell, input, h_0, c_0, named, noise=noise, **options)
    results = [done.output, done.h_n, done.c_n]
    if options.get("gates"):
        results += [done.gates[..., :4, :], done.cells]
    generator = torch.Generator().manual_seed(1)
    cotangents = [torch.randn(y.shape, generator=generator).to(y.dtype) for y in results]
    return [*results, *torch.autograd.grad(results, leaves, cotangents)]


def hold(variant: Variant, sizes: tuple[int, ...], way: str = "") -> None:
    torch.manual_seed(0)
    T, B, I, H = sizes
    options: dict[str, Any] = {"every": 3} if "every" in way else {"gates": True}
    if "lengths" in way:
        options["lengths"] = torch.randint(0, T + 1, (B,))
    if "resets" in way:
        options["resets"] = torch.rand(T, B) < 0.2
    given = problem(variant, T, B, I, H, 2 if "reverse" in way else 1)
    for got, want in zip(
        solve(variant, given, torch.float32, **options), solve(variant, given, torch.float64, **options), strict=True
    ):
        error = (got.double() - want).abs().max() / want.abs().max().clamp(min=1e-30)
        assert error <= 1e-5, f"relative error {error:.1e} of a tensor {list(want.shape)}"


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("sizes", [(1, 1, 5, 4), (7, 3, 8, 31), (5, 20, 33, 32), (12, 1, 4, 100)], ids=str)
def test_the_variants_of_the_literature_agree(name: str, sizes: tuple[int, ...]) -> None:
    hold(VARIANTS[name], sizes)


@pytest.mark.parametrize("way", WAYS[1:])
@pytest.mark.parametrize("name", [*DIFFERENCES, "all gates", "normalised"])
def test_every_way_of_calling_a_variant_agrees(name: str, way: str) -> None:
    several = {
        "all gates": Variant(
            gate_recurrence=True, peepholes=True, variational_dropout=0.2, zoneout_hidden=0.1, coupled=True
        ),
        "normalised": Variant(layer_norm=True, peepholes=True, recurrent_dropout=0.1, zoneout_cell=0.1, cell_clip=1.0),
    }
    hold(several.get(name) or Variant(**DIFFERENCES[name]), (8, 5, 6, 17), way)


@pytest.mark.parametrize("pair", PAIRS)
def test_variants_agree_in_pairs(pair: str) -> None:
    hold(PAIRS[pair], (6, 4, 5, 18), "lengths reverse")


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("clip", [None, 0.5])
def test_activations_agree(activation: Any, clip: float | None) -> None:
    hold(Variant(input_activation=activation, output_activation=activation, clip=clip), (4, 7, 6, 19))
    hold(Variant(gate_activation=activation, clip=clip), (2, 7, 6, 19))


@pytest.mark.parametrize("name", ["peephole", "layer-norm", "zoneout", "full-gate-recurrence", "variational-dropout"])
def test_a_variant_does_not_change_a_bit_with_threads_and_company(name: str, deterministic: None) -> None:
    import conveyor

    variant = VARIANTS[name]
    given = problem(variant, 9, 26, 40, 200, 1)
    results = []
    for threads in (1, 2, 3):
        conveyor.set_num_threads(threads)
        results.append(solve(variant, given, torch.float32))
    conveyor.set_num_threads(None)
    for more in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], more, strict=True))
    noise, input, h_0, c_0, *weights = given
    some = [None if noise is None else noise[:, :, 3:5], input[:, 3:5], h_0[:, 3:5], c_0[:, 3:5], *weights]
    assert torch.equal(solve(variant, some, torch.float32)[0], results[0][0][:, 3:5])


def test_the_weights_of_a_variant_lie_in_a_row() -> None:
    variant = Variant(gate_recurrence=True, peepholes=True)
    _, _, _, _, *weights = problem(variant, 1, 1, 3, 4, 2)
    named = by_direction(variant.cell, weights, 2)
    assert all(isinstance(of, Weights) and of.w_gh is not None and of.peepholes is not None for of in named)
    assert [w.shape for of in named for w in flat(of)] == [w.shape for w in weights if w is not None]
