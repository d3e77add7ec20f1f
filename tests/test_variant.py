"""What a `Variant` takes, refuses, and is called."""

from typing import Any

import pytest

from conveyor import VARIANTS, Variant


@pytest.mark.parametrize("name", VARIANTS)
def test_its_name_says_all_that_the_operators_need(name: str) -> None:
    variant = VARIANTS[name]
    again = Variant.of_cell(variant.cell)
    if variant.cell == "lstm":
        assert again is None
    else:
        assert again is not None
        assert again.options == variant.options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"coupled": True, "forget_gate": False}, "takes both gates"),
        ({"peepholes": True, "input_gate": False, "forget_gate": False, "output_gate": False}, "no gate to see"),
        ({"gate_recurrence": True, "layer_norm": True}, "no such norm"),
        ({"forget_gate": False, "forget_bias": 1.0}, "no forget gate of its own"),
        ({"coupled": True, "forget_bias": 1.0}, "no forget gate of its own"),
        ({"peepholes": 1}, "peepholes: expected True or False, got 1"),
        ({"input_activation": "swish"}, "input_activation: expected a name"),
        ({"input_activation": ("tanh", 2.0)}, "input_activation: expected a name"),
        ({"input_activation": ("elu", float("nan"))}, "input_activation: expected a name"),
        ({"output_activation": ("leaky-relu", -1.0)}, "output_activation: expected"),
        ({"input_activation": ["tanh"]}, "input_activation: expected a name"),
        ({"input_activation": ("scaled-tanh", 1e300)}, "input_activation: expected a name"),
        ({"clip": 10**400}, "clip: expected a number above zero"),
        ({"clip": 0.0}, "clip: expected a number above zero"),
        ({"cell_clip": "3"}, "cell_clip: expected a number above zero"),
        ({"zoneout_cell": 1.0}, "zoneout_cell: expected a probability"),
        ({"recurrent_dropout": -0.1}, "recurrent_dropout: expected a probability"),
        ({"forget_bias": float("inf")}, "forget_bias: expected a number"),
    ],
)
def test_what_means_nothing_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Variant(**options)


def test_a_forget_bias_may_be_negative() -> None:
    assert Variant(forget_bias=-1.0).forget_bias == -1.0
