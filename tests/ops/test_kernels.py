"""The kernels, which take float32, against the equations, which the same calls take in float64."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import conveyor
from conveyor import _kernels, ops
from conveyor.ops.cells import by_direction

Agree = Callable[[Tensor, Tensor], None]
CELLS = ["lstm", "gru", "rnn_tanh", "rnn_relu"]
SIZES = [  # T, B, I, H: around the rows, vectors and blocks of the kernels
    (1, 1, 1, 1),
    (2, 2, 3, 3),
    (7, 5, 8, 8),
    (35, 6, 31, 31),
    (7, 7, 32, 32),
    (2, 13, 33, 33),
    (7, 32, 64, 64),
    (35, 33, 100, 100),
    (35, 1, 100, 64),
    (7, 2, 64, 100),
    (1, 5, 33, 1),
    (2, 6, 1, 33),
    (35, 7, 3, 32),
    (7, 13, 8, 31),
    (1, 32, 31, 3),
    (2, 33, 32, 8),
    (35, 2, 1, 100),
    (3, 1, 70, 300),
    (3, 20, 16, 200),
]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch.manual_seed(0)
    yield
    conveyor.set_num_threads(None)


def problem(
    cell: str, T: int, B: int, I: int, H: int, *, D: int = 1, bias: bool = True, P: int | None = None
) -> list[Tensor]:
    """Random input [T, B, I], h_0, of the LSTM c_0, and each direction's weights: biases and projection or not."""
    rows = {"lstm": 4, "gru": 3}.get(cell, 1) * H
    shapes = [(rows, I), (rows, P or H)] + ([(rows,), (rows,)] if bias else []) + ([(P, H)] if P else [])
    states = [torch.randn(D, B, P or H), torch.randn(D, B, H)][: 2 if cell == "lstm" else 1]
    return [torch.randn(T, B, I), *states, *(torch.randn(s) / s[-1] ** 0.5 for _ in range(D) for s in shapes)]


def call(cell: str, tensors: Sequence[Tensor], **options: Any) -> tuple[Tensor, ...]:
    """The layer on the tensors of a problem: what it gives that is not empty."""
    input, h_0, *rest = tensors
    c_0 = rest.pop(0) if cell == "lstm" else None
    done = ops.layer(cell, input, h_0, c_0, by_direction(cell, rest, len(h_0)), **options)
    return tuple(done[: 2 if c_0 is None else 5 if options.get("gates") else 3])


def leaves(tensors: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    return [tensor.detach().to(dtype).requires_grad_() for tensor in tensors]


def gradients(results: Sequence[Tensor], inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """For random cotangents that depend on nothing but the shapes."""
    generator = torch.Generator().manual_seed(1)
    cotangents = [torch.randn(y.shape, generator=generator).to(y.dtype) for y in results]
    return torch.autograd.grad(results, inputs, cotangents)


def solve(cell: str, tensors: Sequence[Tensor], dtype: torch.dtype = torch.float32, **options: Any) -> list[Tensor]:
    """Every result and every gradient."""
    inputs = leaves(tensors, dtype)
    results = call(cell, inputs, **options)
    return [*results, *gradients(results, inputs)]


def test_the_rule_that_chooses() -> None:
    one = torch.zeros(1)
    assert ops.why_not(one, one) is None
    assert ops.why_not(one.bfloat16(), one, one.bfloat16()) is None
    for wrong, words in [(one.double(), "float64"), (one.half(), "float16"), (one.to("meta"), "meta")]:
        assert words in str(ops.why_not(wrong, one))
        assert words in str(ops.why_not(one, one, wrong))
    assert "bfloat16" in str(ops.why_not(one, one.bfloat16()))
    with torch.autograd.forward_ad.dual_level():
        assert "forward-mode" in str(ops.why_not(one, one))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("number", range(len(SIZES)), ids=[str(sizes) for sizes in SIZES])
def test_results_and_gradients_agree(cell: str, number: int, agree: Agree) -> None:
    tensors = problem(cell, *SIZES[number], D=1 + number % 2, bias=number % 3 > 0)
    for got, want in zip(solve(cell, tensors), solve(cell, tensors, torch.float64), strict=True):
        agree(got, want)


def test_an_open_forget_gate_keeps_the_belt_to_the_bit() -> None:
    for B in (1, 20):
        input, h_0, c_0, w_ih, w_hh, b_ih, b_hh = problem("lstm", 300, B, 4, 20)
        b_ih[:20], b_ih[20:40] = -1000, 1000  # nothing is put on it, nothing is lost
        c_n = call("lstm", [input, h_0, c_0, w_ih, w_hh, b_ih, b_hh])[2]
        assert torch.equal(c_n, c_0)


def some_lengths(T: int, B: int) -> Tensor:
    """From 0 to T, both among them where there are rows for both."""
    lengths = torch.randint(0, T + 1, (B,))
    lengths[-1:], lengths[: B - 1][:1] = T, 0
    return lengths


OPTIONS = ["", "lengths", "resets", "lengths resets", "every", "lengths resets every", "gates", "lengths resets gates"]


WAYS = [(cell, names, False) for cell in CELLS for names in OPTIONS if cell == "lstm" or "gates" not in names]


@pytest.mark.parametrize(("cell", "names", "projected"), [*WAYS, *(("lstm", names, True) for names in OPTIONS)])
def test_every_way_of_calling_agrees(cell: str, names: str, projected: bool, agree: Agree) -> None:
    """With each number of rows: one for each way in which threads share the work, and rows to spare."""
    torch.manual_seed(3)  # no gradient of a single number that is a difference of almost equal ones
    for number, (T, B, I, H) in enumerate([(1, 1, 1, 2), (7, 5, 8, 8), (9, 40, 33, 33), (30, 2, 5, 200)]):
        options: dict[str, Any] = {"every": 4 if "every" in names else 1, "gates": "gates" in names}
        options["lengths"] = some_lengths(T, B) if "lengths" in names else None
        options["resets"] = torch.rand(T, B) < 0.2 if "resets" in names else None
        tensors = problem(cell, T, B, I, H, D=1 + number % 2, bias=number > 0, P=H // 2 if projected else None)
        want = solve(cell, tensors, torch.float64, **options)
        for threads in (1, 2):
            conveyor.set_num_threads(threads)
            for got, witness in zip(solve(cell, tensors, **options), want, strict=True):
                agree(got, witness)


@pytest.mark.parametrize("cell", CELLS)
def test_more_ticks_than_steps_are_kept(cell: str, agree: Agree) -> None:
    """Rows that share lanes take more ticks than there are steps, and checkpoints count ticks."""
    tensors = problem(cell, 40, 100, 3, 5, D=2)
    options: dict[str, Any] = {"lengths": torch.randint(1, 41, (100,)), "every": 6}
    for got, want in zip(solve(cell, tensors, **options), solve(cell, tensors, torch.float64, **options), strict=True):
        agree(got, want)


@pytest.mark.parametrize("cell", CELLS)
def test_what_lies_past_the_end_does_not_matter(cell: str) -> None:
    """NaN there reaches no result and no gradient."""
    tensors, lengths = problem(cell, 9, 7, 5, 6, D=2), some_lengths(9, 7)
    clean = solve(cell, tensors, lengths=lengths)
    past = torch.arange(9).unsqueeze(1) >= lengths
    tensors[0][past] = torch.nan
    for got, want in zip(solve(cell, tensors, lengths=lengths), clean, strict=True):
        assert torch.equal(got, want)
    assert not clean[0][past].any()


@pytest.mark.parametrize("cell", CELLS)
def test_wrong_lengths_are_refused(cell: str) -> None:
    """By the kernels, which would read past the end; for the equations the layers ask, as for every call."""
    tensors = problem(cell, 5, 3, 4, 6)
    for wrong in (-1, 6):
        with pytest.raises(RuntimeError, match=f"expected 0 to T = 5 steps in every row, got {wrong} in row 1"):
            solve(cell, tensors, lengths=torch.tensor([5, wrong, 0]))


@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("cell", CELLS[:3])  # a rounded sum of relu may have the other sign, and no gradient at all
def test_bfloat16_agrees(cell: str, weights: torch.dtype, agree: Agree) -> None:
    """With the equations on the same rounded numbers; the sums and the belt are float32."""
    for T, B, I, H in [(7, 5, 9, 9), (9, 13, 33, 33), (30, 2, 5, 64), (4, 40, 64, 100)]:
        tensors = [t.bfloat16().float() for t in problem(cell, T, B, I, H, D=2)]
        states = 2 if cell == "lstm" else 1
        options: dict[str, Any] = {"lengths": some_lengths(T, B)}
        inputs = [*leaves(tensors[: 1 + states], torch.bfloat16), *leaves(tensors[1 + states :], weights)]
        results = call(cell, inputs, **options)
        assert all(result.dtype is torch.bfloat16 for result in results)
        found = gradients(results, inputs)
        assert [gradient.dtype for gradient in found] == [input.dtype for input in inputs]
        want = solve(cell, tensors, torch.float64, **options)
        for got, witness in zip([*results, *found], want, strict=True):
            agree(got.bfloat16(), witness)


def test_bfloat16_is_the_same_with_and_without_the_instruction() -> None:
    """Bit for bit, where the processor has it."""
    builds = ["avx512", "avx512_bf16", "amx"]  # on AMX as on the others where a row's result is that which it has alone
    if not set(builds[:2]) <= set(_kernels.available()):
        pytest.skip("this processor has no instruction for bfloat16")
    script = """
import hashlib, torch
from conveyor import LSTM
torch.manual_seed(0)
torch.use_deterministic_algorithms(True)
lstm, input = LSTM(33, 47, num_layers=2, dtype=torch.bfloat16), torch.randn(9, 13, 33, dtype=torch.bfloat16)
output = lstm(input)[0]
output.square().sum().backward()
for t in (output, *(p.grad for p in lstm.parameters())):
    print(hashlib.sha256(t.detach().view(torch.int16).numpy().tobytes()).hexdigest())
"""
    runs = [
        subprocess.run(
            [sys.executable, "-c", script], env=os.environ | {"CONVEYOR_ISA": isa}, capture_output=True, text=True,
            timeout=60, check=True,
        ).stdout
        for isa in builds
        if isa in _kernels.available()
    ]  # fmt: skip
    assert runs[0]
    assert set(runs) == {runs[0]}


@pytest.mark.parametrize("D", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_inference_agrees(cell: str, D: int, agree: Agree) -> None:
    """Over more steps than one block of projected input holds."""
    tensors = [tensor / 2 for tensor in problem(cell, 3000, 1, 3, 5, D=D)]  # so that relu stays bounded
    with torch.inference_mode():
        results = call(cell, tensors)
        for got, want in zip(results, call(cell, [tensor.double() for tensor in tensors]), strict=True):
            agree(got, want)


@pytest.mark.parametrize("cell", CELLS)
def test_an_empty_batch_agrees(cell: str) -> None:
    """There is nothing in it, so weights get zero gradients and not whatever the memory held."""
    tensors = problem(cell, 3, 0, 4, 8, D=2)
    for got, want in zip(solve(cell, tensors), solve(cell, tensors, torch.float64), strict=True):
        assert got.shape == want.shape
        assert not got.any()


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "batch first": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "every other feature": lambda x: x.repeat_interleave(2, dim=-1)[..., ::2],
    "every other step": lambda x: x.repeat_interleave(2, dim=0)[::2],
    "features first": lambda x: x.permute(2, 0, 1).contiguous().permute(1, 2, 0),
    "one row for all": lambda x: x[:, :1].expand_as(x),
    "one step for all": lambda x: x[:1].expand_as(x),
    "inside a larger tensor": lambda x: torch.nn.functional.pad(x, (3, 1, 1, 2))[:, 1:-2, 3:-1],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("cell", CELLS)
def test_layouts_agree(cell: str, layout: str, agree: Agree) -> None:
    input, *others = problem(cell, 4, 7, 9, 11, D=2)
    arranged = LAYOUTS[layout](input).requires_grad_()
    others = [LAYOUTS["features first"](state) for state in others[:1]] + others[1:]
    others = [w.t().contiguous().t() if w.dim() == 2 else w for w in others]
    results = call(cell, [arranged, *others])
    wide = leaves([arranged, *others], torch.float64)
    want = call(cell, wide)
    for got, witness in zip(results, want, strict=True):
        agree(got, witness)
    # a sum hands an expanded gradient back, a transposed output a transposed one
    got = torch.autograd.grad(results[0].transpose(0, 1).square().sum() + results[1].sum(), arranged)
    agree(got[0], torch.autograd.grad(want[0].square().sum() + want[1].sum(), wide[0])[0])


@pytest.mark.parametrize("wanted", [[0], [1], [2], [3], [4, 6], [0, 1, 2, 3, 4, 5, 6]], ids=str)
@pytest.mark.parametrize("used", [[0], [1], [2], [0, 2]], ids=str)
def test_partial_gradients_agree(used: list[int], wanted: list[int], agree: Agree) -> None:
    """Of some results alone, and for some inputs alone."""
    found = []
    for dtype in (torch.float32, torch.float64):
        inputs = [tensor.to(dtype) for tensor in problem("lstm", 5, 3, 4, 6)]
        torch.manual_seed(0)
        for number in wanted:
            inputs[number].requires_grad_()
        results = call("lstm", inputs)
        found.append(gradients([results[number] for number in used], [inputs[number] for number in wanted]))
    for got, want in zip(*found, strict=True):
        agree(got, want)


@pytest.mark.parametrize("where", ["input", "h_0"])
@pytest.mark.parametrize("cell", CELLS)
def test_nan_stays_in_its_row(cell: str, where: str) -> None:
    T, B, H, row = 5, 13, 33, 3
    tensors = problem(cell, T, B, 8, H, D=2)
    clean = solve(cell, tensors)
    tensors[0 if where == "input" else 1][2 if where == "input" else slice(None), row] = torch.nan
    spoilt = solve(cell, tensors)
    others = [number for number in range(B) if number != row]
    states = 2 if cell == "lstm" else 1
    for before, after in zip(clean[: 2 * states + 2], spoilt[: 2 * states + 2], strict=True):
        assert torch.equal(before[:, others], after[:, others])
    forward = spoilt[0][:, row, :H]
    first = 2 if where == "input" else 0
    assert torch.equal(forward[:first], clean[0][:first, row, :H])
    assert forward[first:].isnan().all()


@pytest.mark.parametrize("B", [4, 19])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
def test_infinities_saturate(cell: str, B: int, agree: Agree) -> None:
    tensors = problem(cell, 3, B, 1, 33)
    tensors[0][1, 0], tensors[0][1, 1], tensors[0][1, 2] = torch.inf, -torch.inf, 3e38
    for got, want in zip(call(cell, tensors), call(cell, [t.double() for t in tensors]), strict=True):
        agree(got, want)


def test_an_infinite_gradient_stays_infinite(agree: Agree) -> None:
    """Of the weights and the input; where the other rows' are finite, they are as without it."""
    tensors = leaves(problem("rnn_relu", 1, 40, 33, 48), torch.float32)
    output = call("rnn_relu", tensors)[0]
    cotangent = torch.randn(output.shape)
    clean = torch.autograd.grad(output, tensors, cotangent, retain_graph=True)
    unit = int(output[0, 0].argmax())
    cotangent[0, 0, unit] = torch.inf
    for got, before in zip(torch.autograd.grad(output, tensors, cotangent), clean, strict=True):
        agree(got[got.isfinite()], before[got.isfinite()].double())
        assert got.isinf().any()
        assert not got.isnan().any()


@pytest.mark.parametrize("flush", [False, True])
def test_the_callers_floating_point_state_is_kept(flush: bool) -> None:
    tiny = torch.full((64,), 1e-40)
    if not torch.set_flush_denormal(flush):
        pytest.skip("this processor does not flush denormals")
    try:
        solve("lstm", problem("lstm", 3, 8, 5, 7))
        assert ((tiny * 1.0) == 0).all() == flush
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    "sizes",
    [
        (7, 33, 31, 100),
        (3, 1, 64, 512),
        (5, 3, 70, 300),
        (2, 200, 16, 48),
        (40, 30, 21, 65),
        (3, 40, 16, 200),
        (4, 8, 1400, 260),
    ],
    ids=str,
)
@pytest.mark.parametrize("unequal", [False, True])
def test_threads_do_not_change_a_bit(cell: str, sizes: tuple[int, int, int, int], unequal: bool) -> None:
    tensors = problem(cell, *sizes, D=2)
    lengths = some_lengths(*sizes[:2]) if unequal else None
    conveyor.set_num_threads(1)
    alone = solve(cell, tensors, lengths=lengths)
    for threads in (2, 3, 5):
        conveyor.set_num_threads(threads)
        assert all(map(torch.equal, solve(cell, tensors, lengths=lengths), alone))


@pytest.mark.parametrize("hidden_size", [40, 300])
def test_threads_do_not_change_a_bit_of_what_is_worked_out_again(hidden_size: int) -> None:
    torch.manual_seed(4)
    lstm, x = conveyor.LSTM(30, hidden_size, checkpoint_every=5), torch.randn(40, 16, 30)
    found = []
    for threads in (1, 2, 8):
        conveyor.set_num_threads(threads)
        lstm.zero_grad()
        lstm(x)[0].square().sum().backward()
        found.append([p.grad.clone() for p in lstm.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("cell", CELLS)
def test_a_rows_results_do_not_depend_on_its_batch(cell: str, deterministic: None) -> None:
    """Nor do the gradients of its input and states: bit for bit, whichever blocks of rows it falls into."""
    B, own = 33, 4 if cell == "lstm" else 3  # output and states, then input and states
    tensors = problem(cell, 5, B, 40, 70, D=2)
    weights = tensors[own - 1 :]
    whole = solve(cell, tensors)
    results = len(whole) - len(tensors)
    for rows in ([0], [7, 8], list(range(3, 14)), list(range(32))):
        part = [t[:, rows] for t in tensors[: own - 1]]
        inputs = leaves([*part, *weights], torch.float32)
        got = call(cell, inputs)
        generator = torch.Generator().manual_seed(1)
        cotangents = [torch.randn(y.shape, generator=generator)[:, rows] for y in whole[:results]]
        got += torch.autograd.grad(got, inputs[: own - 1], cotangents)
        for alone, together in zip(got, whole, strict=False):
            assert torch.equal(alone, together[:, rows])


def test_several_callers_at_once() -> None:
    conveyor.set_num_threads(2)
    problems = [problem("lstm", 9, 3 + 5 * number, 20, 40 + 30 * number, D=2) for number in range(6)]
    alone = [solve("lstm", tensors) for tensors in problems]
    with ThreadPoolExecutor(len(problems)) as pool:
        for _ in range(5):
            for got, want in zip(pool.map(lambda tensors: solve("lstm", tensors), problems), alone, strict=True):
                assert all(map(torch.equal, got, want))


def test_the_kernels_take_numpy_arrays_too() -> None:
    """The same numbers, without torch's own way in; and nothing but arrays of their type."""
    input, h_0, c_0, *weights = problem("lstm", 5, 3, 4, 6)
    want = call("lstm", [input, h_0, c_0, *weights])
    output, h_n, c_n = (np.empty(t.shape, np.float32) for t in want)
    arrays = [t.numpy() for t in (input, h_0, c_0)]
    rest = (None, None, None, None, 1, False, 1)
    _kernels.forward("lstm", (), *arrays, [w.numpy() for w in weights], None, output, h_n, c_n, *rest)
    for got, witness in zip((output, h_n, c_n), want, strict=True):
        assert np.array_equal(got, witness.numpy())
    for wrong in (arrays[0].astype(np.float64), input.double(), input.bfloat16(), [1.0], None):
        with pytest.raises(TypeError):
            _kernels.forward("lstm", (), wrong, *arrays[1:], weights, None, output, h_n, c_n, *rest)
    with pytest.raises(ValueError, match=r"weights: expected \[24, 4\], got \[24, 6\]"):
        _kernels.forward("lstm", (), *arrays, [weights[1], *weights[1:]], None, output, h_n, c_n, *rest)
