"""Bundles that nothing may be believed of: each file in `attacks/` is refused by the name that its own begins with."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conveyor.errors import BundleError
from conveyor.runtime import Model

FOLDER = Path(__file__).parent / "attacks"
ATTACKS = sorted(FOLDER.glob("*-*.safetensors")) + [*FOLDER.glob("tensor_unused.safetensors")]
SOUND = (FOLDER / "sound.safetensors").read_bytes()


def test_the_sound_one_is_sound() -> None:
    model = Model.load(FOLDER / "sound.safetensors")
    assert model.run(np.arange(6)).shape == (6, 3)
    assert model.facts == {"letters": "abcdef"}
    assert len(ATTACKS) + 1 == len([*FOLDER.glob("*.safetensors")])


@pytest.mark.parametrize("file", ATTACKS, ids=lambda file: file.stem)
def test_an_attack_is_refused_by_name(file: Path) -> None:
    with pytest.raises(BundleError, match=r"^\[bundle\] ") as refused:
        Model.load(file)
    assert refused.value.name == file.stem.partition("-")[0], refused.value


def survives(content: bytes) -> None:
    """That it is refused, or computes."""
    try:
        model = Model.of_bytes(content)
    except BundleError:
        return
    x = np.zeros(4, np.int64) if model.tokens else np.zeros((4, model.inputs), np.float32)
    assert model.run(x).shape == (4, model.outputs)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_any_bytes_changed(changes: list[tuple[int, int]]) -> None:
    content = bytearray(SOUND)
    for place, value in changes:
        content[place] = value
    survives(bytes(content))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(SOUND)), st.integers(0, 60), st.binary(max_size=60))
def test_any_part_exchanged(first: int, count: int, other: bytes) -> None:
    survives(SOUND[:first] + other + SOUND[first + count :])


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers(-9, 99) | st.text(max_size=5),
    lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text(max_size=5), x, max_size=4),
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_value_in_the_description(data: st.DataObject) -> None:
    """A field of the description, of a node or of a tensor is anything else."""
    length = struct.unpack("<Q", SOUND[:8])[0]
    header = json.loads(SOUND[8 : 8 + length])
    about = json.loads(header["__metadata__"]["conveyor"])
    place = data.draw(
        st.sampled_from([about, *about["nodes"], *(one for name, one in header.items() if name != "__metadata__")])
    )
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(JSON)
    header["__metadata__"]["conveyor"] = json.dumps(about)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    survives(struct.pack("<Q", len(text)) + text + SOUND[8 + length :])
