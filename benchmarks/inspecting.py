"""Recording a sequence against reading it: the same gates, and the time of each; and how long the page takes to open.

    python benchmarks/inspecting.py --output inspecting.md

The network is that of the language-model task, two layers of 256 with weights as drawn, over 100,000 characters. The
page is opened in headless Chromium where there is one, on the recording of all of them.
"""

import argparse
import shutil
import time
from pathlib import Path

import machine
import numpy as np
import torch
from measuring import alternate

from conveyor.data import tokenizer
from conveyor.inspect import gates, record
from conveyor.inspect.answers import Answers
from conveyor.inspect.server import Server
from conveyor.tasks import language_model as task
from conveyor.training.task import Model

STEPS, SIZE = 100_000, 256


def main() -> None:
    """Check, then measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="Markdown file for the table")
    asked = parser.parse_args()
    torch.manual_seed(1)
    config = task.Config(embedding_size=SIZE, hidden_size=SIZE, layers=2)
    data = task.read(config)
    model = Model(task, config, data.facts, task.network(config, data.facts).eval())
    tokens = tokenizer.from_json(data.facts["tokenizer"])
    text = "".join(tokens.decode([n]) for n in np.random.default_rng(1).integers(1, len(tokens), STEPS).tolist())
    ids = torch.from_numpy(tokens.encode(text)).unsqueeze(1)
    network = model.network
    assert isinstance(network, task.Network)

    @torch.inference_mode()
    def read() -> None:
        network(ids)

    check(model, text, ids)
    plain, kept = alternate([read, lambda: record(model, text)], 1.0)
    lines = [
        f"{STEPS:,} steps of two layers of {SIZE}, {machine.description()}:",
        "",
        "| reading | recording | ratio | the page, open |",
        "|---|---|---|---|",
        f"| {plain:.2f} s | {kept:.2f} s | {kept / plain:.3f} | {opening(model, text)} |",
    ]
    print("\n".join(lines))
    if asked.output:
        asked.output.write_text("\n".join(lines) + "\n")


def check(model: Model, text: str, ids: torch.Tensor) -> None:
    """The recorded gates are those of one call over all steps."""
    network = model.network
    assert isinstance(network, task.Network)
    with torch.inference_mode():
        expected = gates(network.lstm, network.embedding(ids[:5000]))
    seen = record(model, text[:5000])
    for number, of in enumerate(expected):
        for q in "ifgoc":
            np.testing.assert_array_equal(getattr(seen.at(number), q), getattr(of, q)[:, 0].numpy())


def opening(model: Model, text: str) -> str:
    """Seconds until the page of a recording is drawn."""
    chromium = shutil.which("chromium")
    if chromium is None:
        return "no Chromium"
    from playwright.sync_api import sync_playwright

    times = []
    about = {"run": "", "task": "language-model", "typed": False}
    with Server(Answers([record(model, text)], about)) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for _ in range(5):
            page = browser.new_page()
            begin = time.perf_counter()
            page.goto(server.address + "#view=Map")
            page.wait_for_selector("[data-drawn]")
            times.append(time.perf_counter() - begin)
            page.close()
        browser.close()
    return f"{np.median(times):.2f} s"


if __name__ == "__main__":
    main()
