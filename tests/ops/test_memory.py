"""What is kept from call to call, packed weights and the memory of large arrays, is never seen."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from conveyor import GRU, LSTM, RNN

CHANGES: list[Callable[[Tensor], object]] = [
    lambda w: w.neg_(),
    lambda w: w[-1, -1].add_(1e-6),
    lambda w: w.copy_(w.roll(1, dims=-1)),
    lambda w: w.numpy().__imul__(2),
]


@pytest.mark.parametrize("steps", [1, 9])
@pytest.mark.parametrize("cell", [LSTM, GRU, RNN])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("weight", ["weight_ih_l0", "weight_hh_l0", "weight_hh_l0_reverse", "bias_hh_l0"])
def test_a_weight_changed_behind_autograds_back_is_seen(
    cell: type[LSTM], weight: str, change: Callable[[Tensor], object], steps: int
) -> None:
    layer, input = cell(5, 137, bidirectional=True), torch.randn(steps, 3, 5)
    with torch.inference_mode():
        for _ in range(2):
            layer(input)
    w = getattr(layer, weight).data
    change(w if w.dim() == 2 else w.unsqueeze(0))
    want = layer(input)[0]
    with torch.inference_mode():
        assert torch.equal(layer(input)[0], want)


def test_layers_that_take_turns_do_not_share_packed_weights() -> None:
    layers, input = [LSTM(8, 24, num_layers=2) for _ in range(8)], torch.randn(7, 2, 8)
    want = [lstm(input)[0].detach() for lstm in layers]

    def run(n: int) -> bool:
        with torch.inference_mode():
            return torch.equal(layers[n % 8](input)[0], want[n % 8])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(run, range(200)))


def test_large_results_are_the_callers_own() -> None:
    lstm, input = LSTM(32, 128), torch.randn(80, 32, 32)
    results = [lstm(input * n) for n in range(3)]
    before = [output.detach().clone() for output, _ in results]
    for (output, _), then in zip(results, before, strict=True):
        assert torch.equal(output, then)


def test_the_memory_of_large_results_serves_again() -> None:
    lstm, input = LSTM(32, 128), torch.randn(80, 32, 32)

    def place() -> int:
        return lstm(input, return_gates=True)[2][0].i.data_ptr()

    assert place() == place()
