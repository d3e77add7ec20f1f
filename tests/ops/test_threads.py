"""How many threads the kernels take, and what becomes of them in the children of a fork."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

import conveyor


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield
    conveyor.set_num_threads(None)


def test_number_of_threads() -> None:
    assert conveyor.get_num_threads() == torch.get_num_threads()
    conveyor.set_num_threads(3)
    assert conveyor.get_num_threads() == 3
    with pytest.raises(ValueError, match=r"threads: expected at least 1, or None for torch's number, got 0"):
        conveyor.set_num_threads(0)
    for wrong in (1.5, "2"):
        with pytest.raises(TypeError, match="threads: expected an int or None, got"):
            conveyor.set_num_threads(wrong)


FORK = """
import multiprocessing, torch, conveyor
conveyor.set_num_threads(2)
torch.manual_seed(0)
lstm, input = conveyor.LSTM(16, 64), torch.randn(9, 12, 16)

def work(_):
    lstm.zero_grad()
    output, _ = lstm(input)
    output[-1, -1, -1].backward()
    return output.sum().item(), lstm.weight_hh_l0.grad.sum().item()

before = work(0)
with multiprocessing.get_context("fork").Pool(3) as pool:
    assert pool.map(work, range(12)) == [before] * 12
assert work(0) == before
print("finished")
"""


def test_children_of_a_fork_finish() -> None:
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "finished", done.stderr
