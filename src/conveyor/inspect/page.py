"""The page as one file, which works offline: all that it may ask is answered in it."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from conveyor.errors import ConveyorError
from conveyor.inspect.answers import Answers, encoded
from conveyor.inspect.measures import LEVELS, PATTERNS, SIZE
from conveyor.inspect.recording import QUANTITIES
from conveyor.inspect.server import IMPORTS, INDEX, WEB
from conveyor.training import files

MOST_NUMBERS = 20_000_000
"""That one file holds."""
MOST_STEPS = 300
"""Of a sequence whose every step can be asked what moved it; longer ones are looked at in their maps and belts."""
SPAN = 8
"""Steps of the longest span."""
LESSON = 24
"""Steps of a lesson, as in learn.js."""


def write(answers: Answers, path: Path) -> None:
    """Put the page with all its answers at `path`."""
    files.write(path, page(answers).encode())


def page(answers: Answers) -> str:
    """The page as HTML: style, modules and answers inside."""
    held = {_key(name, query): _held(answers(name, query)) for name, query in questions(answers)}
    packed = base64.b64encode(gzip.compress(json.dumps(held, ensure_ascii=False).encode(), 6)).decode()
    modules = {
        f"conveyor/{file.name}": f"data:text/javascript;base64,{base64.b64encode(file.read_bytes()).decode()}"
        for file in WEB.iterdir()
        if file.name.endswith(".js")
    }
    html = INDEX.replace(
        '<link rel="stylesheet" href="style.css">', f"<style>\n{(WEB / 'style.css').read_text()}</style>"
    )
    html = html.replace(IMPORTS, json.dumps({"imports": modules}))
    return html.replace("</body>", f'<script type="text/plain" id="answers">{packed}</script>\n</body>')


def questions(answers: Answers) -> Iterator[tuple[str, dict[str, str]]]:
    """All that the page may ask of what is recorded."""
    about = answers("about", {})
    layers = [(one, of) for one in about["recordings"] for of in one["layers"]]
    numbers = sum(of["steps"] * of["units"] * (len(QUANTITIES) + 1) for _, of in layers)
    if numbers > MOST_NUMBERS:
        raise ConveyorError(
            f"[inspect] -o: expected at most {MOST_NUMBERS:,} numbers in one file, got {numbers:,}; give less of the "
            "input, or leave out -o, which serves a page of any size"
        )
    yield "about", {}
    for r, one in enumerate(about["recordings"]):
        for n in range(-(-one["steps"] // SIZE)):
            yield "steps", {"r": str(r), "n": str(n)}
        for pattern in PATTERNS:
            yield "selective", {"r": str(r), "pattern": pattern}
        for n, of in enumerate(one["layers"]):
            at = {"r": str(r), "layer": str(n)}
            yield from _of_layer(at, of["steps"], of["units"])
            if of["own"]:
                yield from (("steps", at | {"n": str(k)}) for k in range(-(-of["steps"] // SIZE)))
            for pattern in PATTERNS:
                yield "order", at | {"by": "selective", "pattern": pattern}


def _of_layer(at: dict[str, str], steps: int, units: int) -> Iterator[tuple[str, dict[str, str]]]:
    level = 0
    while level <= LEVELS and (level == 0 or steps >> level > 64):
        for q in (*QUANTITIES, *(("x",) if level == 0 else ())):
            for n in range(-(-steps // (SIZE << level))):
                yield "block", at | {"q": q, "level": str(level), "n": str(n)}
        level += 1
    for by in ("variance", "cluster", "lifetime"):
        yield "order", at | {"by": by, "pattern": ""}
    for name in ("saturation", "lifetimes", "flow"):
        yield name, at
    for unit in range(units):
        yield "rows", at | {"unit": str(unit)}
    if steps > MOST_STEPS:
        return
    for step in range(steps):
        yield "memory", at | {"step": str(step)}
        for length in range(1, min(SPAN, steps - step) + 1):
            yield "span", at | {"first": str(step), "last": str(step + length)}
    for first in range(0, steps, LESSON):
        for unit in range(units):
            bounds = {"first": str(first), "last": str(min(steps, first + LESSON))}
            yield "lesson", at | {"unit": str(unit)} | bounds


def _held(answer: Any) -> Any:
    return base64.b64encode(answer).decode() if isinstance(answer, bytes) else json.loads(encoded(answer))


def _key(name: str, query: dict[str, str]) -> str:
    """As the page writes it."""
    return f"{name}?{urlencode(sorted(query.items()))}"
