"""The precision a layer computes in: that of its weights, or autocast's."""

import torch
from torch import Tensor


def precision(weight: Tensor) -> torch.dtype:
    """What input and states are brought to; autocast leaves float64 as it is."""
    kind = weight.device.type
    if weight.dtype is torch.float64 or not autocast(kind):
        return weight.dtype
    return torch.get_autocast_dtype(kind)


def autocast(kind: str) -> bool:
    """Whether autocast is on for devices of this kind."""
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
