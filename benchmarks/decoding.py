"""Beam search over a batch against one sentence at a time: the same texts, and the time of each.

    python benchmarks/decoding.py --output decoding.md

The network is that of the translation task with weights as drawn, over 6,000 tokens; its sources have 5 to 20 tokens,
and every text is 15 tokens long, as captions are: with weights as drawn nothing ends by itself.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import machine
import torch
from measuring import alternate
from torch import Tensor

from conveyor.nn.decoder import Decoder
from conveyor.nn.encoder import Encoder
from conveyor.nn.seq2seq import Seq2Seq, search

TOKENS, SIZE, LENGTH = 6000, 256, 15


def network() -> Seq2Seq:
    """An encoder of one layer, a decoder of two."""
    torch.manual_seed(1)
    encoder = Encoder(SIZE, SIZE, vocabulary=TOKENS)
    return Seq2Seq(encoder, Decoder(TOKENS, SIZE, SIZE, 2 * SIZE, 2 * SIZE, layers=2)).eval()


def decoding(of: Seq2Seq, sources: Tensor, lengths: Tensor, width: int, size: int) -> Callable[[], list[list[int]]]:
    """The best text of each source, `size` of them side by side."""

    def run() -> list[list[int]]:
        texts = []
        for n in range(0, len(lengths), size):
            some = lengths[n : n + size]
            found = search(
                of, sources[: some.max(), n : n + size], some, start=0, end=0, never=[0], width=width, longest=LENGTH
            )
            texts += [best.tokens for best, *_ in found]
        return texts

    return run


def main() -> None:
    """Print a table, a line for each width of beam."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sentences", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=20, help="for each line of the table")
    parser.add_argument("--output", type=Path)
    asked = parser.parse_args()
    machine.use_threads(asked.threads)
    of, B = network(), asked.sentences
    sources, lengths = torch.randint(1, TOKENS, (20, B)), torch.randint(5, 21, (B,))
    lines = [f"{machine.description()}, {asked.threads} threads", ""]
    lines += [f"| beam | {B} sentences at once, a second | one at a time | faster |", "|--:|--:|--:|--:|"]
    for width in (1, 5):
        together, alone = (decoding(of, sources, lengths, width, size) for size in (B, 1))
        differ = sum(a != b for a, b in zip(together(), alone(), strict=True))
        if differ > B // 16:  # equal but for ties, which rounding decides
            raise SystemExit(f"beam {width}: {differ} of {B} texts differ; no times are shown")
        fast, slow = (B / seconds for seconds in alternate([together, alone], asked.seconds))
        lines.append(f"| {width} | {fast:,.0f} | {slow:,.0f} | {fast / slow:.1f} |")
    report = "\n".join(lines) + "\n"
    print(report, end="")
    if asked.output:
        asked.output.write_text(report)


if __name__ == "__main__":
    main()
