"""The precision a layer computes in: that of its weights, or autocast's."""

import torch
from torch import Tensor


def precision(weight: Tensor) -> torch.dtype:
    """What input and states are brought to; autocast leaves float64 as it is."""
    dtype, kind = weight.dtype, weight.device.type
    return dtype if dtype is torch.float64 or not autocast(kind) else torch.get_autocast_dtype(kind)


def autocast(kind: str) -> bool:
    """Whether autocast is on for devices of this kind."""
    return (kind == "cpu" or torch.amp.is_autocast_available(kind)) and torch.is_autocast_enabled(kind)


def brought(t: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor in that dtype; to ask torch costs a microsecond where there is nothing to do."""
    return t if t.dtype is dtype else t.to(dtype)
