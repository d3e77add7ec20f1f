"""Which parts of an LSTM matter: Greff et al.'s comparison, on music and on text.

    python benchmarks/odyssey.py --data ../shared/data --output odyssey.md --picture odyssey.png
    python benchmarks/odyssey.py --data ../shared/data --sets jsb --seeds 2 --variants peephole coupled

K. Greff et al. 2015 (LSTM: A Search Space Odyssey) trained their vanilla LSTM, which has peepholes, and eight that each
lack or change one part. Here each is trained on JSB Chorales (the next frame of 88 keys, nats a frame) and on the
characters of Penn Treebank (the next of 50, nats a character), with the same learning rates and several seeds. The
learning rate and the epoch are those best on the validation part; the test part is scored once with them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, stdev
from time import perf_counter
from typing import NamedTuple

import scipy.io
import torch
import tyro
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from conveyor import LSTM

VANILLA = "peephole"
VARIANTS = (
    VANILLA, "no-input-gate", "no-forget-gate", "no-output-gate", "no-input-activation", "no-output-activation",
    "no-peepholes", "coupled", "full-gate-recurrence",
)  # fmt: skip


@dataclass(frozen=True)
class Options:
    """Greff et al.'s comparison of LSTM variants."""

    data: Path
    """Folder with poly_music/JSB_Chorales.mat and ptb/ptb.*.txt."""
    sets: tuple[str, ...] = ("jsb", "ptb")
    """jsb, ptb, or both."""
    variants: tuple[str, ...] = VARIANTS
    """Names in conveyor.VARIANTS, the first of which the others are compared with."""
    seeds: int = 5
    """How often each is trained, each time with other weights."""
    hidden_size: int = 100
    """Units."""
    output: Path | None = None
    """File for the Markdown report, which is printed as well."""
    picture: Path | None = None
    """File for a PNG."""


class Batch(NamedTuple):
    """Input [T, B, I], target [T, B] or [T, B, I], the steps of each row [B], whether the state goes on from before."""

    input: Tensor
    target: Tensor
    lengths: Tensor | None
    carried: bool


class Problem(NamedTuple):
    """A data set: its parts, the width of input and output, and how it is trained."""

    name: str
    parts: dict[str, list[Batch]]
    width: int
    epochs: int
    rates: tuple[float, ...]


def jsb(folder: Path) -> Problem:
    """Pieces as rows of unequal length, 40 to a batch."""
    found = scipy.io.loadmat(folder / "poly_music" / "JSB_Chorales.mat")
    parts = {}
    for part in ("train", "valid", "test"):
        pieces = [torch.tensor(piece, dtype=torch.float32) for piece in found[f"{part}data"][0]]
        batches = [pieces[n : n + 40] for n in range(0, len(pieces), 40)]
        parts[part] = [
            Batch(padded[:-1], padded[1:], torch.tensor([len(piece) - 1 for piece in batch]), carried=False)
            for batch in batches
            for padded in [nn.utils.rnn.pad_sequence(batch)]
        ]
    return Problem("jsb", parts, 88, 40, (0.002, 0.01))


def ptb(folder: Path) -> Problem:
    """Characters as 64 streams, read 100 steps at a time; of the training part the first million."""
    text = {part: (folder / "ptb" / f"ptb.{part}.txt").read_text() for part in ("train", "valid", "test")}
    alphabet = {c: n for n, c in enumerate(sorted(set(text["train"])))}
    parts = {}
    for part, limit in (("train", 1_000_000), ("valid", 200_000), ("test", None)):
        codes = torch.tensor([alphabet[c] for c in text[part][:limit] if c in alphabet])
        steps = (len(codes) - 1) // 64
        x, y = (codes[k : k + 64 * steps].view(64, steps).t() for k in (0, 1))
        one_hot = torch.eye(len(alphabet))
        parts[part] = [
            Batch(one_hot[x[t : t + 100]], y[t : t + 100], None, carried=t > 0) for t in range(0, steps, 100)
        ]
    return Problem("ptb", parts, len(alphabet), 3, (0.005,))


class Network(nn.Module):
    """One LSTM and what reads it."""

    def __init__(self, problem: Problem, variant: str, hidden_size: int) -> None:
        super().__init__()
        self.lstm = LSTM(problem.width, hidden_size, variant=variant)
        self.output = nn.Linear(hidden_size, problem.width)

    def losses(self, batches: list[Batch]) -> Iterator[tuple[Tensor, float]]:
        """Of each batch the nats, summed, and the number of steps."""
        state = None
        for input, target, lengths, carried in batches:
            state = tuple(part.detach() for part in state) if carried and state else None
            hidden, state = self.lstm(input, state, lengths=lengths)
            logits = self.output(hidden)
            if target.dim() == 2:
                yield cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="sum"), target.numel()
                continue
            nats = binary_cross_entropy_with_logits(logits, target, reduction="none").sum(-1)
            there = torch.arange(len(nats)).unsqueeze(1) < lengths
            yield (nats * there).sum(), int(there.sum())

    @torch.inference_mode()
    def score(self, batches: list[Batch]) -> float:
        """Nats a step."""
        sums = [(nats.item(), steps) for nats, steps in self.losses(batches)]
        return sum(nats for nats, _ in sums) / sum(steps for _, steps in sums)


def train(problem: Problem, variant: str, hidden_size: int, rate: float, seed: int) -> tuple[float, float]:
    """The best score on the validation part, and the test score of that epoch."""
    torch.manual_seed(seed)
    network = Network(problem, variant, hidden_size)
    optimizer, best = torch.optim.Adam(network.parameters(), lr=rate), (float("inf"), float("inf"))
    kept: dict[str, Tensor] = {}
    for _ in range(problem.epochs):
        for nats, steps in network.losses(problem.parts["train"]):
            optimizer.zero_grad()
            (nats / steps).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
        valid = network.score(problem.parts["valid"])
        if valid < best[0]:
            best, kept = (valid, 0.0), {name: w.clone() for name, w in network.state_dict().items()}
    network.load_state_dict(kept)
    return best[0], network.score(problem.parts["test"])


def measure(problem: Problem, options: Options) -> dict[str, list[float]]:
    """Test scores of each variant, a seed each, at the learning rate that is best on the validation part."""
    scores = {}
    for variant in options.variants:
        start = perf_counter()
        runs = {
            rate: [train(problem, variant, options.hidden_size, rate, seed) for seed in range(options.seeds)]
            for rate in problem.rates
        }
        rate = min(runs, key=lambda rate: mean(valid for valid, _ in runs[rate]))
        scores[variant] = [test for _, test in runs[rate]]
        print(
            f"{problem.name} {variant}: {mean(scores[variant]):.4f}, rate {rate}, {perf_counter() - start:.0f} s",
            flush=True,
        )
    return scores


def table(name: str, scores: dict[str, list[float]], weights: dict[str, int]) -> str:
    """A Markdown table; "of t" is the distance from the first in standard errors of the difference (Welch)."""
    first = next(iter(scores.values()))
    lines = [
        f"\n### {name}, test\n",
        "| variant | weights | nats a step | spread | from vanilla | of t |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for variant, tests in scores.items():
        error = ((stdev(tests) ** 2 + stdev(first) ** 2) / len(tests)) ** 0.5 if len(tests) > 1 else float("nan")
        away = mean(tests) - mean(first)
        of_t = "" if tests is first else f"{away / error:.1f}"
        spread = stdev(tests) if len(tests) > 1 else float("nan")
        lines.append(f"| {variant} | {weights[variant]:,} | {mean(tests):.4f} | {spread:.4f} | {away:+.4f} | {of_t} |")
    return "\n".join(lines)


def draw(results: dict[str, dict[str, list[float]]], path: Path) -> None:
    """A box for each variant, a panel for each set; what is far worse than the first lies outside."""
    figure = Figure(figsize=(5.5 * len(results), 4.6), layout="constrained")
    panels = figure.subplots(1, len(results), squeeze=False)[0]
    for panel, (name, scores) in zip(panels, results.items(), strict=True):
        panel.boxplot([*scores.values()], orientation="horizontal", tick_labels=[*scores])
        first = median(next(iter(scores.values())))
        panel.axvline(first, color="0.7", zorder=0)
        panel.set_xlim(0.93 * first, 1.15 * first)
        panel.invert_yaxis()
        panel.set_title(f"{name}: test, nats a step", loc="left")
        panel.grid(axis="x", color="0.9")
    figure.savefig(path, dpi=130)


def main(options: Options) -> None:
    """Trains, prints and writes what the options ask for."""
    results, report = {}, []
    for name in options.sets:
        problem = {"jsb": jsb, "ptb": ptb}[name](options.data)
        results[name] = measure(problem, options)
        weights = {
            variant: sum(w.numel() for w in Network(problem, variant, options.hidden_size).parameters())
            for variant in options.variants
        }
        report.append(table(name, results[name], weights))
        print(report[-1], flush=True)
        if options.output:
            options.output.write_text("\n".join(report) + "\n")
        if options.picture:
            draw(results, options.picture)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
