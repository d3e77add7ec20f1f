"""A `torch.nn.utils.rnn.PackedSequence` as a padded batch and lengths, in the user's order, and back.

The kernels take rows of any lengths in any order, so nothing is sorted: each step goes straight to its place.
"""

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence


def padded(packed: PackedSequence, batch: int) -> tuple[Tensor, Tensor, Tensor]:
    """The padded batch [T, B, I], its lengths [B], and where in [T*B] each step of the data [N, I] stands in it."""
    data, counts, order, _ = packed
    T, N = len(counts), len(data)
    steps = torch.arange(T).repeat_interleave(counts, output_size=N)
    rows = torch.arange(N) - (counts.cumsum(0) - counts).index_select(0, steps)  # sorted, longest first
    rows = rows.to(data.device) if order is None else order.index_select(0, rows.to(order.device))
    places = steps.to(data.device) * batch + rows
    lengths = torch.zeros(batch, dtype=torch.int64, device=data.device).index_add(0, rows, torch.ones_like(rows))
    x = data.new_zeros(T * batch, data.shape[1]).index_copy(0, places, data)
    return x.unflatten(0, (T, batch)), lengths, places


def repacked(output: Tensor, places: Tensor, like: PackedSequence) -> PackedSequence:
    """The output [T, B, ·] at these places, packed as the input was."""
    data = output.flatten(0, 1).index_select(0, places)
    return PackedSequence(data, like.batch_sizes, like.sorted_indices, like.unsorted_indices)
