"""The operators under torch's compilers and transforms, with the equations in float64 as the witness."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import grad, jacrev, jvp, vmap
from torch.utils._python_dispatch import TorchDispatchMode

from conveyor import LSTM, ops
from conveyor.ops.cells import by_direction

Agree = Callable[[Tensor, Tensor], None]
CELLS = ["lstm", "gru", "rnn_tanh", "rnn_relu"]
T, B, I, H, N = 6, 4, 5, 7, 3
OPTIONS = ["", "lengths", "resets", "lengths resets"]


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torch.manual_seed(0)


def weights(cell: str, D: int, P: int | None = None) -> tuple[Tensor, ...]:
    rows = {"lstm": 4, "gru": 3}.get(cell, 1) * H
    shapes = [(rows, I), (rows, P or H), (rows,), (rows,), *([(P, H)] if P else [])]
    return tuple(torch.randn(shape) / 3 for _ in range(D) for shape in shapes)


def options(names: str) -> dict[str, Tensor]:
    all = {"lengths": torch.tensor([3, 0, T, 5]), "resets": torch.rand(T, B) < 0.3}
    return {name: all[name] for name in names.split()}


def loss_of(cell: str, D: int, P: int | None, **options: Any) -> Callable[..., Tensor]:
    """A function of the weights and the input that uses every result."""
    h_0, c_0 = torch.randn(D, B, P or H), torch.randn(D, B, H)

    def loss(weights: tuple[Tensor, ...], input: Tensor) -> Tensor:
        states = (h_0.to(input.dtype), c_0.to(input.dtype) if cell == "lstm" else None)
        done = ops.layer(cell, input, *states, by_direction(cell, weights, D), **options)
        return done.output.square().sum() + done.h_n.sin().sum() + done.c_n.cos().sum()

    return loss


def wide(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(t.double() for t in tensors)


@pytest.mark.parametrize("every", [0, 1, 3])
@pytest.mark.parametrize("names", ["", "lengths resets"])
@pytest.mark.parametrize("cell", CELLS)
def test_the_operators_keep_torchs_rules(cell: str, names: str, every: int) -> None:
    """Schema, fake tensors, autograd registration and tracing, as torch checks them."""
    chosen = {"lengths": None, "resets": None} | options(names)
    of = [t.requires_grad_(every > 0) for t in weights(cell, 2)]
    input, h_0 = (t.requires_grad_(every > 0) for t in (torch.randn(T, B, I), torch.randn(2, B, H)))
    c_0 = torch.randn(2, B, H if cell == "lstm" else 0, requires_grad=every > 0 and cell == "lstm")
    whole = dict(chosen)
    if names and every == 1:  # what is kept past a row's end is not the same twice
        whole["lengths"] = torch.full((B,), T)
    torch.library.opcheck(
        torch.ops.conveyor.recurrent.default, (cell, input, h_0, c_0, of, *whole.values(), None, every)
    )
    if not every:
        return
    input, h_0, c_0, *of = (t.detach() for t in (input, h_0, c_0, *of))
    y, h_n, c_n, gates, cells = torch.ops.conveyor.recurrent(cell, input, h_0, c_0, of, *chosen.values(), None, every)
    given = (y, h_n, c_n, *((gates, cells) if every == 1 and cell == "lstm" else (None, None)))
    arguments = (*given, input, h_0, c_0, of, y, gates, cells, *chosen.values(), None, every, True, True, True, True)
    torch.library.opcheck(torch.ops.conveyor.recurrent_backward.default, (cell, *arguments))


@pytest.mark.parametrize("names", OPTIONS)
@pytest.mark.parametrize("D", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_of_each_sample(cell: str, D: int, names: str, agree: Agree) -> None:
    loss, of, inputs = loss_of(cell, D, None, **options(names)), weights(cell, D), torch.randn(N, T, B, I)
    found = vmap(grad(loss), (None, 0))(of, inputs)
    for n in range(N):
        for got, want in zip(found, grad(loss)(wide(of), inputs[n].double()), strict=True):
            agree(got[n], want)


def test_gradients_of_each_sample_through_a_projection(agree: Agree) -> None:
    loss, of, inputs = loss_of("lstm", 2, 3), weights("lstm", 2, 3), torch.randn(N, T, B, I)
    found = vmap(grad(loss), (None, 0))(of, inputs)
    for n in range(N):
        for got, want in zip(found, grad(loss)(wide(of), inputs[n].double()), strict=True):
            agree(got[n], want)


@pytest.mark.parametrize("of_inputs", [0, None])
@pytest.mark.parametrize("cell", CELLS)
def test_an_ensemble(cell: str, of_inputs: int | None, agree: Agree) -> None:
    loss, of = loss_of(cell, 2, None, lengths=torch.tensor([3, 0, T, 5])), weights(cell, 2)
    several = tuple(torch.stack([w * (1 + 0.1 * n) for n in range(N)]) for w in of)
    inputs = torch.randn(N, T, B, I) if of_inputs == 0 else torch.randn(T, B, I)
    found = vmap(grad(loss), (0, of_inputs))(several, inputs)
    for n in range(N):
        input = inputs[n] if of_inputs == 0 else inputs
        for got, want in zip(found, grad(loss)(wide(tuple(w[n] for w in several)), input.double()), strict=True):
            agree(got[n], want)


def test_lengths_of_each_sample(agree: Agree) -> None:
    of, inputs, lengths = weights("gru", 2), torch.randn(N, T, B, I), torch.randint(0, T + 1, (N, B))
    h_0 = torch.randn(2, B, H)

    def output(input: Tensor, lengths: Tensor) -> Tensor:
        return ops.layer("gru", input, h_0.to(input.dtype), None, by_direction("gru", of, 2), lengths=lengths).output

    found = vmap(output)(inputs, lengths)
    for n in range(N):
        agree(found[n], output(inputs[n], lengths[n]))


@pytest.mark.parametrize("names", ["", "lengths resets"])
@pytest.mark.parametrize("cell", CELLS)
def test_second_derivatives(cell: str, names: str, agree: Agree) -> None:
    """Of a gradient penalty: by torch.func, and by autograd where the input depends on a weight as well."""
    loss, of, input = loss_of(cell, 2, None, **options(names)), weights(cell, 2), torch.randn(T, B, I)

    def penalty(of: tuple[Tensor, ...], input: Tensor) -> Tensor:
        return grad(loss, 1)(of, input).square().sum()

    def tied(of: tuple[Tensor, ...], input: Tensor) -> tuple[Tensor, ...]:
        of, x = tuple(w.clone().requires_grad_() for w in of), input.clone().requires_grad_()
        (dx,) = torch.autograd.grad(loss(of, x * of[-1].sum()), x, create_graph=True)
        return torch.autograd.grad(dx.square().sum(), [x, *of])

    for differentiate in (grad(penalty), tied):
        found, want = differentiate(of, input), differentiate(wide(of), input.double())
        for got, witness in zip(found, want, strict=True):
            agree(got, witness)


def test_third_derivatives(agree: Agree) -> None:
    loss, of, input = loss_of("lstm", 1, None), weights("lstm", 1), torch.randn(T, B, I)
    third = grad(lambda x: grad(lambda y: grad(loss, 1)(of, y).square().sum())(x).square().sum())
    wider = grad(lambda x: grad(lambda y: grad(loss, 1)(wide(of), y).square().sum())(x).square().sum())
    agree(third(input), wider(input.double()))


@pytest.mark.parametrize("cell", CELLS)
def test_forward_mode(cell: str, agree: Agree) -> None:
    """By the equations, which the kernels leave it to."""
    loss, of = loss_of(cell, 2, None), weights(cell, 2)
    input, tangent = torch.randn(2, T, B, I)
    agree(
        jvp(lambda x: loss(of, x), (input,), (tangent,))[1],
        jvp(lambda x: loss(wide(of), x), (input.double(),), (tangent.double(),))[1],
    )


def test_a_jacobian(agree: Agree) -> None:
    """Reverse mode over every output at once: the rows of one larger batch."""
    of, input = weights("lstm", 1), torch.randn(3, 2, I)

    def last(input: Tensor) -> Tensor:
        zeros = input.new_zeros(1, 2, H)
        return ops.layer("lstm", input, zeros, zeros, by_direction("lstm", [w.to(input.dtype) for w in of], 1)).h_n

    agree(jacrev(last)(input), jacrev(last)(input.double()))


@pytest.mark.parametrize("names", ["", "lengths resets"])
@pytest.mark.parametrize(("cell", "P"), [*((cell, None) for cell in CELLS), ("lstm", 3)])
def test_many_cotangents_at_once(cell: str, P: int | None, names: str, agree: Agree) -> None:
    """Autograd's own vmap, which is not that of torch.func."""
    loss, of, input = loss_of(cell, 2, P, **options(names)), weights(cell, 2, P), torch.randn(T, B, I)
    leaves = [t.requires_grad_() for t in (input, *of)]
    values, cotangents = torch.stack([loss(of, input), loss(of, 2 * input)]), torch.randn(N, 2)
    found = torch.autograd.grad(values, leaves, cotangents, is_grads_batched=True, retain_graph=True)
    for n in range(N):
        for got, want in zip(found, torch.autograd.grad(values, leaves, cotangents[n], retain_graph=True), strict=True):
            agree(got[n], want.double())
    with pytest.raises(RuntimeError, match="expected create_graph=False with is_grads_batched=True"):
        torch.autograd.grad(values, leaves, cotangents, is_grads_batched=True, create_graph=True)


@pytest.mark.parametrize("cell", CELLS)
def test_checkpointing_gives_the_same(cell: str) -> None:
    """torch's own, which runs the layer again."""
    loss, of, input = loss_of(cell, 2, None), weights(cell, 2), torch.randn(T, B, I)
    found = []
    for run in (loss, lambda *a: torch.utils.checkpoint.checkpoint(loss, *a, use_reentrant=False)):
        leaves = tuple(w.clone().requires_grad_() for w in of)
        found.append(torch.autograd.grad(run(leaves, input), leaves))
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_taken_outside_of_vmap(cell: str, agree: Agree) -> None:
    """Inside it no tensor says that a gradient will be asked for."""
    loss, of, input = loss_of(cell, 2, None), weights(cell, 2), torch.randn(T, B, I)
    several = tuple(torch.stack([w, w * 1.1]).requires_grad_() for w in of)
    found = torch.autograd.grad(vmap(loss, (0, None))(several, input).sum(), several)
    for n in range(2):
        for got, want in zip(
            found, grad(loss)(wide(tuple(w[n].detach() for w in several)), input.double()), strict=True
        ):
            agree(got[n], want)


def test_nothing_kept_nothing_differentiated() -> None:
    input, h_0, c_0, of = torch.randn(T, B, I), torch.zeros(1, B, H), torch.zeros(1, B, H), list(weights("lstm", 1))
    y, h_n, c_n, gates, cells = torch.ops.conveyor.recurrent("lstm", input, h_0, c_0, of, None, None, None, 0)
    arguments = (
        y,
        h_n,
        c_n,
        None,
        None,
        input,
        h_0,
        c_0,
        of,
        y,
        gates,
        cells,
        None,
        None,
        None,
        0,
        True,
        True,
        True,
        False,
    )
    with pytest.raises(RuntimeError, match="expected a forward pass that kept its gates"):
        torch.ops.conveyor.recurrent_backward("lstm", *arguments)


def test_a_jacobian_with_checkpoints_and_lengths() -> None:
    """Rows of a larger batch stand in other lanes than those that were kept."""
    of, input, lengths = weights("lstm", 1), torch.randn(9, 20, I), torch.randint(0, 10, (20,))
    zeros = torch.zeros(1, 20, H)

    def sums(input: Tensor, every: int) -> Tensor:
        done = ops.layer("lstm", input, zeros, zeros, by_direction("lstm", of, 1), lengths=lengths, every=every)
        return done.output.sum((0, 1))

    torch.testing.assert_close(jacrev(sums)(input, 2), jacrev(sums)(input, 1))


def test_many_cotangents_with_checkpoints_and_lengths(agree: Agree) -> None:
    of, input, lengths = weights("lstm", 1), torch.randn(9, 20, I, requires_grad=True), torch.randint(0, 10, (20,))
    zeros = torch.zeros(1, 20, H)
    output = ops.layer("lstm", input, zeros, zeros, by_direction("lstm", of, 1), lengths=lengths, every=2).output
    cotangents = torch.randn(N, *output.shape)
    (found,) = torch.autograd.grad(output, input, cotangents, is_grads_batched=True, retain_graph=True)
    for n in range(N):
        agree(found[n], torch.autograd.grad(output, input, cotangents[n], retain_graph=True)[0].double())


def test_nan_past_the_end_reaches_no_samples_gradient() -> None:
    loss, of = loss_of("gru", 1, None, lengths=torch.tensor([3, 0, 2, 1])), weights("gru", 1)
    inputs = torch.randn(N, T, B, I)
    inputs[:, 3:] = torch.nan
    assert all(gradient.isfinite().all() for gradient in vmap(grad(loss), (None, 0))(of, inputs))


def test_second_derivatives_in_bfloat16(agree: Agree) -> None:
    of = [w.bfloat16().float() for w in weights("lstm", 1)]
    found = []
    for dtype in (torch.bfloat16, torch.float64):
        x = torch.randn(T, B, I, generator=torch.Generator().manual_seed(3)).bfloat16().to(dtype).requires_grad_()
        zeros = x.new_zeros(1, B, H)
        named = by_direction("lstm", [w if dtype is torch.bfloat16 else w.double() for w in of], 1)
        output = ops.layer("lstm", x, zeros, zeros, named).output
        (dx,) = torch.autograd.grad(output.float().square().sum(), x, create_graph=True)
        found.append(torch.autograd.grad(dx.float().square().sum(), x)[0])
    agree(*found)


def test_who_watches_sees_the_operator_pass() -> None:
    """Without a gradient nothing but the kernels runs, unless a mode or the profiler looks on."""
    lstm, input = LSTM(3, 4), torch.randn(5, 2, 3)
    with torch.no_grad(), torch.profiler.profile() as profile:
        lstm(input)
    assert "conveyor::recurrent" in {event.key for event in profile.key_averages()}

    class Names(TorchDispatchMode):
        seen: list[str] = []  # noqa: RUF012

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.seen.append(str(func))
            return func(*args, **(kwargs or {}))

    with torch.no_grad(), Names() as names:
        output, _ = lstm(input)
    assert "conveyor.recurrent.default" in names.seen
    with torch.no_grad():
        assert torch.equal(lstm(input)[0], output)
