"""What a model of characters does with the textbook's three sentences: the figures of docs/inspect.md.

python benchmarks/sentences.py RUN
"""

import argparse
from pathlib import Path

import numpy as np

import conveyor
from conveyor.inspect import Recording, record
from conveyor.inspect.answers import EXAMPLES

FULL, SHUT = 1.0, 0.5
"""A unit carries something where |c| is above the one, and lets go of it where f is below the other."""


def main() -> None:
    """Print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run of language-model, of characters")
    model = conveyor.load(parser.parse_args().run)
    forget, put_in, let_out = (record(model, example.text) for example in EXAMPLES)
    for n in range(len(forget.layers)):
        stop = "".join(forget.labels).index(".")
        shares = [let_go(forget, n, step) for step in range(1, len(forget))]
        mean = np.mean([gone / max(1, full) for gone, full in shares])
        for name, step in (("full stop", stop), ("behind it", stop + 1)):
            gone, full = let_go(forget, n, step)
            print(f"layer {n + 1}, {name}: {gone} of {full} units let go, {gone / full:.0%}; at a step {mean:.0%}")
        part = forget.at(n)
        for unit in np.argsort(part.f[stop] - 1e-3 * np.abs(part.c[stop - 1]))[:3]:
            f, c = part.f[:, unit], part.c[:, unit]
            print(f"  unit {unit}: c {c[stop - 1]:.2f} to {c[stop]:.2f}, f {f[stop]:.4f}, at the end {f[-1]:.4f}")
        i, o = put_in.at(n).i, let_out.at(n).o
        for word in ("phone", "navy"):
            at = "".join(put_in.labels).index(word)
            print(f"  i over {word}: {i[at : at + len(word)].mean():.2f}, over all {i.mean():.2f}")
        print(f"  o in the blank: {o[-1].mean():.2f}, over all {o.mean():.2f}")
    print("in the blank:", ", ".join(f"{name!r} {p:.2f}" for name, p in let_out.expected(len(let_out) - 1)))


def let_go(seen: Recording, layer: int, step: int) -> tuple[int, int]:
    """Units that let go of what they carry at a step, and those that carry something."""
    part = seen.at(layer, step - 1, step + 1)
    full = np.abs(part.c[0]) > FULL
    return int((full & (part.f[1] < SHUT)).sum()), int(full.sum())


if __name__ == "__main__":
    main()
