"""The page in a real browser: every view, and its numbers against the equations'."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from conveyor.errors import ConveyorError
from conveyor.inspect import page as one_file
from conveyor.inspect import record
from conveyor.inspect.answers import EXAMPLES, Answers
from conveyor.inspect.recording import Call, Layer, Recording, Source
from conveyor.inspect.server import WEB, Server
from conveyor.nn import LSTM
from conveyor.training.task import STRETCH, Model, Steps

TEXT = "Bob is <b>nice</b>.\nDan & Bob."
ABOUT = {"run": "a run", "task": "language-model", "typed": True}


@pytest.fixture(scope="module")
def recordings(model: Model) -> list[Recording]:
    return [record(model, text, text[:20]) for text in (TEXT, EXAMPLES[0].text)]


@pytest.fixture(scope="module")
def served(model: Model, recordings: list[Recording]) -> Iterator[Server]:
    with Server(Answers(recordings, ABOUT), lambda text: record(model, text, text)) as server:
        yield server


@pytest.fixture(scope="module")
def file(recordings: list[Recording], tmp_path_factory: pytest.TempPathFactory) -> str:
    path = Path(tmp_path_factory.mktemp("page")) / "page.html"
    one_file.write(Answers(recordings, ABOUT | {"typed": False}), path)
    return path.as_uri()


def at(address: str, view: str, **where: int) -> str:
    return address + f"#view={view}" + "".join(f"&{name}={value}" for name, value in where.items())


@contextmanager
def drawn(page: Any, view: str) -> Iterator[None]:
    """What is done inside is drawn when it is left: nothing of the page before is looked at or clicked."""
    page.evaluate("delete document.body.dataset.drawn")
    yield
    page.wait_for_selector(f'[data-drawn="{view}"]')
    assert page.inner_text("#message") == ""


def look(page: Any, view: str) -> None:
    with drawn(page, view):
        page.get_by_role("tab", name=view, exact=True).click()


def numbers(text: str) -> list[float]:
    return [float(x) for x in re.findall(r"-?\d+\.\d+", text)]


@pytest.mark.parametrize("offline", [False, True])
def test_the_cell_has_the_numbers_of_the_equations(
    model: Model,
    recordings: list[Recording],
    served: Server,
    file: str,
    offline: bool,
    opened: Any,
    by_the_equations: Any,
) -> None:
    """Step by step, unit by unit, as they stand on the page; those in the sums too."""
    network: Any = model.network
    x = torch.from_numpy(recordings[0].at(0).x).unsqueeze(1)
    with torch.no_grad():
        layers = by_the_equations(network.lstm, x)
    with opened(at(file if offline else served.address, "Belt", layer=1, unit=5, step=7), offline=offline) as page:
        for step in (7, 8, 9):
            expected = {q: float(getattr(layers[1], q)[step, 0, 5]) for q in "ifgoc"}
            expected["h"] = expected["o"] * np.tanh(expected["c"])
            page.wait_for_selector(f'h2:has-text("Unit 5 at step {step},")')
            for q, value in expected.items():
                assert float(page.inner_text(f"#cell-{q}")) == pytest.approx(value, abs=6e-5)
            a, u, b, gate = numbers(page.inner_text('[data-gate="f"]'))
            assert 1 / (1 + np.exp(-(a + u + b))) == pytest.approx(gate, abs=2e-4)
            kept, before, put, candidate, c = numbers(page.inner_text(".equation > :nth-child(5)"))
            assert kept * before + put * candidate == pytest.approx(c, abs=5e-4)
            assert before == pytest.approx(float(layers[1].c[step - 1, 0, 5]), abs=6e-5)
            page.click("#on")
        curve = page.locator('[data-curve="c"]').get_attribute("points").split()
        assert len(curve) == len(TEXT)
        heights = np.array([float(point.split(",")[1]) for point in curve])
        c = layers[1].c[:, 0, 5].numpy()
        assert np.corrcoef(heights, -c)[0, 1] > 0.999


@pytest.mark.parametrize("offline", [False, True])
def test_the_sequence_is_text_and_what_was_expected(
    recordings: list[Recording], served: Server, file: str, offline: bool, opened: Any
) -> None:
    with opened(at(file if offline else served.address, "Sequence", step=4, layer=0, unit=3), offline=offline) as page:
        assert page.inner_text(".text[aria-label]").replace("⏎\n", "\n").strip() == TEXT
        assert page.locator(".text b").count() == 0, "markup is text"
        rows = page.locator("#expected tr").all()[1:]
        for row, (name, p) in zip(rows, recordings[0].expected(4), strict=True):
            cells = row.locator("td").all_inner_texts()
            assert cells[0] == name.replace(" ", "␣").replace("\n", "⏎")
            assert float(cells[1]) == pytest.approx(p, abs=6e-5)
        h = recordings[0].at(0).h[:, 3]
        shown = [float(one.get_attribute("data-value")) for one in page.locator("[data-step]").all()]
        np.testing.assert_allclose(shown, h, atol=1e-6)
        page.keyboard.press("ArrowRight")
        page.wait_for_selector('[data-step="5"].now')
        page.select_option("#by", "came")
        page.wait_for_selector('[data-step="1"]:not([data-value=""])')
        page.wait_for_selector('[data-step="0"][data-value=""]')
        assert recordings[0].came is not None
        value = float(page.locator('[data-step="9"]').get_attribute("data-value"))
        assert value == pytest.approx(float(recordings[0].came[8]), abs=1e-6)


@pytest.mark.parametrize("dark", [False, True])
def test_the_map_shows_the_numbers(
    recordings: list[Recording], served: Server, tmp_path: Path, dark: bool, opened: Any
) -> None:
    """Pixels of a screenshot against what the colour scale says of the values there."""
    part = recordings[0].at(1)
    with opened(at(served.address, "Map", layer=1, step=20), dark=dark) as page:
        for q, order in (("f", "unit"), ("h", "variance"), ("f", "lifetime")):
            page.select_option("#map-show", q)
            page.select_option("#map-order", order)
            page.wait_for_timeout(300)
            box = page.locator("canvas.heat").bounding_box()
            page.screenshot(path=tmp_path / "map.png")
            picture = np.asarray(Image.open(tmp_path / "map.png").convert("RGB")).astype(int)
            units = Answers(recordings, ABOUT)("order", {"r": "0", "layer": "1", "by": order})
            for t, row in ((0, 3), (10, 20), (25, 31)):
                x, y = int(box["x"] + 1 + (t + 0.5) * 24), int(box["y"] + 1 + (row + 0.5) * (box["height"] - 2) / 32)
                value = float(getattr(part, q)[t, units[row]])
                expected = page.evaluate(
                    "async ([q, value]) => (await import('conveyor/draw.js')).colour(q, value)", [q, value]
                )
                assert np.abs(picture[y, x] - expected).max() <= 6, (q, order, t, row, value)
        page.click("canvas.heat", position={"x": 24 * 5 + 12, "y": 2})
        page.wait_for_url("**step=5")
        page.mouse.move(box["x"] + 30, box["y"] + 30)
        page.keyboard.down("Shift")
        page.mouse.down()
        page.mouse.move(box["x"] + 90, box["y"] + 30)
        page.mouse.up()
        page.keyboard.up("Shift")
        look(page, "Units")
        assert "steps 1 to 3" in page.inner_text("h2:has-text('Units that are on')")


@pytest.mark.parametrize("offline", [False, True])
def test_every_other_view(recordings: list[Recording], served: Server, file: str, offline: bool, opened: Any) -> None:
    answers = Answers(recordings, ABOUT)
    with opened(at(file if offline else served.address, "Sequence", layer=1, unit=2, step=12), offline=offline) as page:
        look(page, "Units")
        best = answers("selective", {"r": "0", "pattern": "capitals"})
        if offline:  # it knows the answers to some alone
            page.select_option("#pattern", "capitals")
            assert page.locator("#among option").count() == 1
        else:
            page.fill("#pattern", "capitals")
            page.press("#pattern", "Enter")
        page.locator("#selective tr:nth-child(2) button", has_text=re.compile(f"^{best[0]['unit']}$")).wait_for()
        assert float(page.locator("#selective td.number").first.inner_text()) == pytest.approx(
            best[0]["correlation"], abs=1e-4
        )
        found = answers("span", {"r": "0", "layer": "1", "first": "12", "last": "13"})
        assert page.inner_text("#on-units") == (", ".join(map(str, found["units"])) or "none")
        look(page, "Memory")
        lifetime = answers("lifetimes", {"r": "0", "layer": "1"})[2]
        assert numbers(page.inner_text("#lifetime"))[0] == pytest.approx(lifetime, rel=1e-3)
        assert len(page.locator('[data-curve="gradient"]').get_attribute("points").split()) == 13
        look(page, "Gates")
        shares = answers("saturation", {"r": "0", "layer": "1"})
        title = page.locator("svg[aria-label*='forget'] [data-unit='2'] title").text_content()
        expected = [2, shares["right"]["f"][2], shares["left"]["f"][2]]
        assert [float(x) for x in re.findall(r"[\d.]+", title)] == pytest.approx(expected)
        assert page.locator('[data-curve="an untrained plain RNN"]').count() == 1
        look(page, "Compare")
        assert page.locator("section.side").count() == 2
        bits = [-np.log2(one.came[:-1]).mean() for one in recordings if one.came is not None]
        assert numbers(page.inner_text("#bits")) == pytest.approx(bits, abs=2e-2)
        look(page, "Learn")
        assert page.locator("svg[aria-label^=unrolled]").count() == 5
        part, texts = recordings[0].at(1, 12, 13), page.locator("p.equation").all_inner_texts()
        assert len(texts) == 4
        f, c_before, stays = numbers(texts[1])
        assert (f, f * c_before) == pytest.approx((float(part.f[0, 2]), stays), abs=2e-4)
        _, i, g, c = numbers(texts[2])
        assert (i, g, c) == pytest.approx([float(each[0, 2]) for each in (part.i, part.g, part.c)], abs=1e-4)
        page.keyboard.press("2")
        page.wait_for_selector('[data-drawn="Belt"]')


def test_a_mistake_leaves_the_rest_of_the_view(served: Server, opened: Any) -> None:
    with opened(at(served.address, "Units", layer=1, step=2), refused=1) as page:
        page.fill("#pattern", "(")
        page.press("#pattern", "Enter")
        page.locator("#message", has_text="expected a regular expression").wait_for()
        page.fill("#pattern", "capitals")
        page.press("#pattern", "Enter")
        page.locator("#selective button").first.wait_for()
        assert page.inner_text("#message") == ""


def test_a_place_found_in_another_sequence_is_shown_there(served: Server, opened: Any) -> None:
    with opened(at(served.address, "Units", layer=1, step=2)) as page:
        with drawn(page, "Units"):
            page.select_option("#among", "1")
        step = page.locator("#places button").last.inner_text()
        page.locator("#places button").last.click()
        page.wait_for_url(lambda url: "r=1&" in url and f"step={step}" in url)


def test_a_text_of_ones_own_and_what_to_look_for(served: Server, opened: Any) -> None:
    with opened(at(served.address, "Sequence", r=1)) as page:
        assert "At the full stop the forget gate" in page.inner_text(".note")
        page.fill("#typed", "Dan is <i>nice</i>.")
        page.press("#typed", "Enter")
        page.locator(".text[aria-label]", has_text="Dan is <i>nice</i>.").wait_for()


def test_figures_are_saved(served: Server, tmp_path: Path, opened: Any) -> None:
    with opened(at(served.address, "Belt", layer=1)) as page:
        for kind in ("SVG", "PNG"):
            with page.expect_download() as download:
                page.get_by_role("button", name=kind).first.click()
            download.value.save_as(tmp_path / kind)
        assert (tmp_path / "SVG").read_text().startswith("<svg ")
        assert "var(" not in (tmp_path / "SVG").read_text()
        with Image.open(tmp_path / "PNG") as picture:
            assert picture.width > 500


def test_a_small_screen_has_all_of_it(served: Server, opened: Any) -> None:
    with opened(at(served.address, "Belt")) as page:
        page.set_viewport_size({"width": 360, "height": 640})
        for view in ("Sequence", "Belt", "Map", "Units", "Gates"):
            look(page, view)
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, view


def test_a_large_map_moves_without_stutter(opened: Any) -> None:
    """10,000 steps of 1,000 units."""
    torch.manual_seed(0)
    lstm, x, state, calls = LSTM(16, 1000).eval(), torch.randn(10_000, 1, 16), None, []
    with torch.inference_mode():
        for part in x.split(STRETCH):
            calls.append(Call(part[:, 0], None if state is None else (state[0][:, 0], state[1][:, 0])))
            _, state = lstm(part, state)
    seen = Recording("large", [Steps(["x"] * 10_000)], [Layer(Source("lstm", lstm, calls), 0)])
    with Server(Answers([seen], ABOUT)) as server, opened(at(server.address, "Map")) as page:
        for _ in range(3):  # until all is there to be shown
            page.evaluate("document.querySelector('#rate').value = ''")
            page.click("#measure")
            page.wait_for_selector("#rate:has-text('frames a second')")
        assert int(page.inner_text("#rate").split()[0]) >= 30


def test_one_file_needs_nothing_else(file: str) -> None:
    html = Path(file.removeprefix("file://")).read_text()
    assert "src=" not in html.replace("default-src", "")
    assert "http://" not in re.sub(r"base64,[\w+/=]+", "", html).replace("http://www.w3.org", "")


def test_one_file_has_its_limits(recordings: list[Recording], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_file, "MOST_NUMBERS", 1000)
    with pytest.raises(ConveyorError, match=r"-o: expected at most 1,000 numbers in one file, got .*; give less"):
        one_file.page(Answers(recordings, ABOUT))


def test_the_front_end_is_small() -> None:
    assert sum(len(file.read_text().splitlines()) for file in WEB.iterdir()) < 2000
