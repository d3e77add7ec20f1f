"""What all that looks into a model needs: one that has learned something, the equations, and a real browser."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch
from torch import Tensor

from conveyor import equations
from conveyor.nn import LSTM
from conveyor.tasks import language_model as task
from conveyor.training.task import Model

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
Opened: TypeAlias = Callable[..., AbstractContextManager[Any]]
Equations: TypeAlias = Callable[[LSTM, Tensor], list[equations.Gates]]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Two layers that have read a sentence for a while."""
    torch.manual_seed(0)
    config = task.smoke(Path(tmp_path_factory.mktemp("text"))).config
    config.layers = 2
    data = task.read(config)
    network = task.network(config, data.facts)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for epoch in range(3):
        for index in range(len(data.train)):
            optimizer.zero_grad()
            task.loss(config, network, data.train.batch(epoch, index), None).loss.backward()
            optimizer.step()
    return Model(task, config, data.facts, network.eval())  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def by_the_equations() -> Equations:
    """The gates of a stack of one direction, from nothing."""

    def found(lstm: LSTM, x: Tensor) -> list[equations.Gates]:
        layers, zero = [], torch.zeros(1, lstm.hidden_size)
        for weights in lstm.all_weights:
            x, _, _, gates = equations.lstm(x, zero, zero, equations.Weights(*weights))
            layers.append(gates)
        return layers

    return found


@pytest.fixture(scope="session")
def opened() -> Opened:
    """A page in headless Chromium, `with opened(address) as page`; whatever it complains about ends the test."""
    if not CHROMIUM:
        pytest.skip("no Chromium here to open the page with: apt-get install chromium")
    return _opened


@contextmanager
def _opened(address: str, offline: bool = False, dark: bool = False, refused: int = 0) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        scheme: Any = "dark" if dark else "light"
        context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=offline, color_scheme=scheme)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: said.type == "error" and complaints.append(said.text))
        page.goto(address)
        page.wait_for_selector("[data-drawn]")
        yield page
        browser.close()
    assert ["400" in one for one in complaints] == [True] * refused  # requests that are to be refused, and no other
