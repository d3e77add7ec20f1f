"""Every way of calling a recurrent layer, against torch or against the plain call.

    python benchmarks/calling.py --output calling.md
    python benchmarks/calling.py --cases lengths resets

Each case trains: the output of one call, then the gradients of the input and all parameters. The two sides hold the
same weights and run in turns within one run; their results are compared before a time is printed.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import machine
import torch
import tyro
from measuring import Task, alternate, compare, training
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from conveyor import GRU, LSTM, RNN

FLOAT32 = 1e-4
BFLOAT16 = 0.1  # gradients of 8 bits, over a hundred steps


class Case(NamedTuple):
    """Ours and another way, and how far their results may differ."""

    name: str
    ours: Task
    other: str
    others: Task
    allowed: float = FLOAT32


def pair(ours: type[nn.Module], torchs: type[nn.Module], *sizes: int, **options: int | bool) -> list[nn.Module]:
    """Ours and torch's with the same weights."""
    torch.manual_seed(0)
    layers = [ours(*sizes, **options), torchs(*sizes, **options)]
    layers[0].load_state_dict(layers[1].state_dict())
    return layers


def unequal() -> Iterator[tuple[str, list[nn.Module], Tensor, Tensor]]:
    """Lengths drawn evenly from T/10 to T, bidirectional: name, ours and torch's, input and lengths."""
    for T, B, I, H in [(400, 32, 64, 64), (1000, 32, 128, 128)]:
        layers = pair(LSTM, nn.LSTM, I, H, bidirectional=True)
        lengths = torch.randint(T // 10, T + 1, (B,))
        lengths[0] = T
        share = lengths.sum().item() / (T * B)
        yield f"lengths, {T}, {B}, {I}, {H}, {share:.0%} of the steps", layers, torch.randn(T, B, I), lengths


def lengths() -> Iterator[Case]:
    for name, (ours, _), x, lengths in unequal():
        past = torch.arange(len(x)).unsqueeze(1) >= lengths
        with_lengths = training(ours, x, lambda layer, x, lengths=lengths: layer(x, lengths=lengths)[0])
        masked = training(ours, x, lambda layer, x, past=past: layer(x)[0].masked_fill(past.unsqueeze(-1), 0))
        yield Case(name, with_lengths, "ours, padded", masked, float("inf"))


def packed() -> Iterator[Case]:
    """Against torch's, which takes a minute a call on the second sizes."""
    for name, (ours, torchs), x, lengths in unequal():

        def run(layer: nn.Module, x: Tensor, lengths: Tensor = lengths) -> Tensor:
            return pad_packed_sequence(layer(pack_padded_sequence(x, lengths, enforce_sorted=False))[0])[0]

        with_lengths = training(ours, x, lambda layer, x, lengths=lengths: layer(x, lengths=lengths)[0])
        yield Case(name, with_lengths, "torch, packed", training(torchs, x, run))
        yield Case(f"{name}, packed", training(ours, x, run), "torch, packed", training(torchs, x, run))


def projection() -> Iterator[Case]:
    ours, torchs = pair(LSTM, nn.LSTM, 512, 512, proj_size=128)
    x = torch.randn(100, 32, 512)
    yield Case("projection, 100, 32, 512, 512 to 128", training(ours, x), "torch", training(torchs, x))


def gates() -> Iterator[Case]:
    ours, _ = pair(LSTM, nn.LSTM, 256, 256)
    x = torch.randn(100, 32, 256)
    shown = training(ours, x, lambda layer, x: layer(x, return_gates=True)[0])
    yield Case("return_gates, 100, 32, 256, 256", shown, "ours, plain", training(ours, x))


def resets() -> Iterator[Case]:
    """At 1 % of the steps, against one call a step of torch's layer."""
    ours, torchs = pair(LSTM, nn.LSTM, 256, 256)
    x, resets = torch.randn(128, 64, 256), torch.rand(128, 64) < 0.01

    def loop(layer: nn.Module, x: Tensor) -> Tensor:
        h = c = x.new_zeros(1, 64, 256)
        outputs = []
        for step, reset in zip(x, resets, strict=True):
            keep = (~reset).to(x.dtype).reshape(1, -1, 1)
            output, (h, c) = layer(step.unsqueeze(0), (h * keep, c * keep))
            outputs.append(output)
        return torch.cat(outputs)

    with_resets = training(ours, x, lambda layer, x: layer(x, resets=resets)[0])
    yield Case("resets, 128, 64, 256, 256", with_resets, "torch, a call a step", training(torchs, x, loop))
    yield Case("resets, 128, 64, 256, 256", with_resets, "ours, plain", training(ours, x), float("inf"))


def bfloat16() -> Iterator[Case]:
    for T, B, I, H in [(100, 32, 256, 256), (35, 20, 650, 650), (100, 32, 512, 512), (100, 16, 1024, 1024)]:
        ours, torchs = pair(LSTM, nn.LSTM, I, H)
        x, name = torch.randn(T, B, I), f"bfloat16, {T}, {B}, {I}, {H}"

        def autocast(layer: nn.Module, x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return layer(x)[0]

        yield Case(name, training(ours, x, autocast), "ours, float32", training(ours, x), BFLOAT16)
        yield Case(name, training(ours, x, autocast), "torch, bfloat16", training(torchs, x, autocast), BFLOAT16)


def checkpoints() -> Iterator[Case]:
    ours, _ = pair(LSTM, nn.LSTM, 256, 256)
    saving = LSTM(256, 256, checkpoint_every=20)
    saving.load_state_dict(ours.state_dict())
    x = torch.randn(400, 32, 256)
    yield Case("checkpoint_every=20, 400, 32, 256, 256", training(saving, x), "ours, plain", training(ours, x))


def others() -> Iterator[Case]:
    for ours, torchs in [(GRU, nn.GRU), (RNN, nn.RNN)]:
        for T, B, I, H in [(100, 32, 256, 256), (35, 20, 200, 200), (100, 1, 256, 256)]:
            mine, theirs = pair(ours, torchs, I, H)
            x = torch.randn(T, B, I)
            yield Case(f"{ours.__name__}, {T}, {B}, {I}, {H}", training(mine, x), "torch", training(theirs, x))


def penalty() -> Iterator[Case]:
    """The gradient of the squared gradient of the input; torch's fused layer has none, so its unfused one."""
    ours, torchs = pair(LSTM, nn.LSTM, 64, 128)
    x = torch.randn(50, 16, 64)

    def task(layer: nn.Module, fused: bool) -> Task:
        def run() -> tuple[Tensor, ...]:
            input = x.clone().requires_grad_()
            with torch.backends.mkldnn.flags(enabled=fused):
                (dx,) = torch.autograd.grad(layer(input)[0].square().sum(), input, create_graph=True)
                return torch.autograd.grad(dx.square().sum(), [*layer.parameters()])

        return run

    yield Case("gradient penalty, 50, 16, 64, 128", task(ours, True), "torch, unfused", task(torchs, False))


def ensemble() -> Iterator[Case]:
    """Eight networks in one call, and one network's gradients of each of 32 samples, against a loop."""
    members = [pair(LSTM, nn.LSTM, 32, 64) for _ in range(8)]
    x = torch.randn(50, 16, 32)
    weights, buffers = stack_module_state([ours for ours, _ in members])
    base = members[0][0]

    def loss(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(base, weights, (x,))[0].square().sum()

    def together() -> tuple[Tensor, ...]:
        return tuple(vmap(grad(loss), (0, None))({**weights, **buffers}, x).values())

    def one(layer: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(layer(x)[0].square().sum(), [*layer.parameters()])

    def loop() -> tuple[Tensor, ...]:
        return tuple(map(torch.stack, zip(*(one(torchs, x) for _, torchs in members), strict=True)))

    yield Case("ensemble of 8, 50, 16, 32, 64", together, "torch, a loop", loop)
    own, samples = dict(base.named_parameters()), torch.randn(32, 50, 1, 32)
    torchs = members[0][1]

    def each() -> tuple[Tensor, ...]:
        return tuple(vmap(grad(loss), (None, 0))(own, samples).values())

    def each_by_loop() -> tuple[Tensor, ...]:
        return tuple(map(torch.stack, zip(*(one(torchs, x) for x in samples), strict=True)))

    yield Case("gradients of 32 samples, 50, 1, 32, 64", each, "torch, a loop", each_by_loop)


CASES: dict[str, Callable[[], Iterator[Case]]] = {
    case.__name__: case
    for case in (lengths, packed, projection, gates, resets, bfloat16, checkpoints, others, penalty, ensemble)
}


@dataclass(frozen=True)
class Options:
    """Every way of calling a recurrent layer, against torch or against the plain call."""

    cases: tuple[str, ...] = tuple(CASES)
    """Which to run."""
    threads: int = 2
    """Number of threads."""
    seconds: float = 4.0
    """How long to measure each case."""
    output: Path | None = None
    """File for the Markdown report, which is printed as well."""


def main(options: Options) -> None:
    """Measures, prints and writes what the options ask for."""
    warnings.filterwarnings("ignore", "LSTM with projections is not supported with oneDNN")
    machine.use_threads(options.threads)
    lines = [f"{machine.description()}; threads: {options.threads}\n"]
    lines += ["| what | ms | against | ms | its time over ours |", "|---|--:|---|--:|--:|"]
    print("\n".join(lines), flush=True)
    for case in (case for name in options.cases for case in CASES[name]()):
        if case.allowed < float("inf"):
            try:
                compare(case.ours(), case.others(), case.allowed, f"{case.name} against {case.other}")
            except (
                SystemExit
            ) as different:  # as torch 2.13's gradients in bfloat16 of 1,024 units on AMX, which are wrong
                lines.append(f"| {case.name} | | {case.other} | | {different} |")
                print(lines[-1], flush=True)
                continue
        ours, others = alternate([case.ours, case.others], options.seconds)
        lines.append(f"| {case.name} | {ours * 1e3:.2f} | {case.other} | {others * 1e3:.2f} | {others / ours:.2f} |")
        print(lines[-1], flush=True)
    if options.output:
        options.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
