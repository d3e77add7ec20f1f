"""The server: its answers are the recording's numbers, and nobody else may have them."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator

import numpy as np
import pytest

from conveyor.errors import ConveyorError
from conveyor.inspect import record
from conveyor.inspect.answers import Answers
from conveyor.inspect.server import LONGEST, Server
from conveyor.training.task import Model

TEXT = "Bob is a nice person. <b>Dan</b> is not.\n" * 20


@pytest.fixture(scope="module")
def answers(model: Model) -> Answers:
    return Answers([record(model, TEXT)], {"run": "a run", "task": "language-model", "typed": True})


@pytest.fixture(scope="module")
def server(model: Model, answers: Answers) -> Iterator[Server]:
    with Server(answers, lambda text: record(model, text)) as served:
        yield served


def get(server: Server, path: str, **headers: str) -> bytes:
    request = urllib.request.Request(server.address + path, headers=headers)
    with urllib.request.urlopen(request, timeout=20) as response:
        content: bytes = response.read()
        return content


def refused(server: Server, path: str, data: bytes | None = None, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(server.address + path, data=data, headers=headers)
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request, timeout=20)
    said = error.value.read().decode()
    return error.value.code, json.loads(said)["error"] if said.startswith("{") else said


def test_answers_are_the_recording(server: Server, answers: Answers) -> None:
    seen = answers.recordings[0]
    about = json.loads(get(server, "api/about"))
    assert about["run"] == "a run"
    assert [(layer["name"], layer["units"]) for layer in about["recordings"][0]["layers"]] == [
        ("lstm 1", 32),
        ("lstm 2", 32),
    ]
    block = np.frombuffer(get(server, "api/block?r=0&layer=1&q=f&level=0&n=2"), "<f4").reshape(-1, 32)
    np.testing.assert_array_equal(block, seen.at(1, 512, 768).f)
    steps = json.loads(get(server, "api/steps?r=0&n=1"))
    assert steps["labels"] == seen.labels[256:512]
    assert steps["expected"][3][0] == [seen.expected(259)[0][0], pytest.approx(seen.expected(259)[0][1], abs=1e-6)]
    rows = json.loads(get(server, "api/rows?r=0&layer=0&unit=7"))
    weights = seen.layers[0].lstm.all_weights[0]
    np.testing.assert_allclose(rows["x"], weights[0][[7, 39, 71, 103]].detach(), rtol=1e-6)
    np.testing.assert_allclose(rows["b"], (weights[2] + weights[3])[[7, 39, 71, 103]].detach(), rtol=1e-5)
    assert json.loads(get(server, "api/steps?r=0&n=3"))["came"][-1] is None


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("api/block?r=1", "recording 1: expected 0 to 0"),
        ("api/block?r=0&layer=9", "layer 9: expected 0 to 1"),
        ("api/block?r=-1", "r: expected a whole number of 0 or more, got '-1'"),
        ("api/block?r=0&layer=0&q=f&level=x", "level: expected a whole number"),
        ("api/rows?r=0&layer=0&unit=32", "unit 32: expected 0 to 31"),
        ("api/memory?r=0&layer=0&step=99999", "step 99999: expected 0 to"),
        ("api/span?r=0&layer=0&first=4&last=4", "steps 4 to 4: expected a first before the last"),
        ("api/selective?r=0&pattern=(", "expected a regular expression, but"),
        ("api/order?r=0&layer=0&by=size", "order 'size'"),
        ("api/nothing", "'nothing': expected one of about"),
    ],
)
def test_what_cannot_be_asked(server: Server, path: str, error: str) -> None:
    code, said = refused(server, path)
    assert code == 400
    assert error in said


@pytest.mark.parametrize(
    ("name", "value"),
    [("Host", "evil.example"), ("Host", "127.0.0.1:1"), ("Origin", "http://evil.example"), ("Origin", "null")],
)
def test_other_pages_cannot_read_it(server: Server, name: str, value: str) -> None:
    for path in ("", "api/about", "app.js"):
        code, said = refused(server, path, **{name: value})
        assert (code, said) == (403, "this page is served to this machine alone")
    assert refused(server, "api/read", b"Bob", **{name: value})[0] == 403
    here = server.address.rstrip("/")
    assert get(server, "api/about", Origin=here, Host=here.removeprefix("http://"))


def test_it_serves_its_own_files_alone(server: Server) -> None:
    assert b"importmap" in get(server, "")
    assert get(server, "app.js").startswith(b"//")
    for path in ("../recording.py", "..%2Frecording.py", "nothing.js", "%2e%2e/%2e%2e/pyproject.toml", "__init__.py"):
        assert refused(server, path)[0] == 404
    with urllib.request.urlopen(server.address) as response:
        assert "script-src 'self' 'sha256-" in response.headers["content-security-policy"]
        assert response.headers["cross-origin-resource-policy"] == "same-origin"


def test_texts_typed_in(server: Server, answers: Answers) -> None:
    request = urllib.request.Request(server.address + "api/read", data=b"Dan is nice.", method="POST")
    with urllib.request.urlopen(request) as response:
        number = json.loads(response.read())["recording"]
    assert "".join(answers.recordings[number].labels) == "Dan is nice."
    assert refused(server, "api/read", b"")[1].startswith("[inspect] the text is empty")
    assert refused(server, "api/read", b"\xff")[0] == 400
    assert refused(server, "api/read", b"B" * (LONGEST + 1))[0] == 413
    with Server(answers) as closed:
        assert refused(closed, "api/read", b"/etc/passwd")[0] == 403


def test_ports(server: Server, answers: Answers) -> None:
    with pytest.raises(ConveyorError, match=rf"port {server.port}: .*; name another with --port"):
        Server(answers, port=server.port)
    with pytest.raises(ConveyorError, match="--port: expected 0 to 65535, got 99999"):
        Server(answers, port=99_999)
