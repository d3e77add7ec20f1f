"""The mean of a network's weights over its training, which often scores better than the last of them."""

from __future__ import annotations

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from conveyor.training.options import TrainingOptions


class Average(nn.Module):
    """A network of the mean weights."""

    def __init__(self, mean: AveragedModel) -> None:
        super().__init__()
        self.mean = mean.requires_grad_(False)

    @classmethod
    def of(cls, options: TrainingOptions, network: nn.Module) -> Average | None:
        """The one that the options ask for, or None.

        ema:     w̄ ← d w̄ + (1 - d) w, with d = --average-decay, from the first step on
        trigger: w̄ = mean of w over all steps since validation stopped getting better (Merity et al. 2018, NT-ASGD)
        """
        if options.average == "none":
            return None
        decaying = get_ema_multi_avg_fn(options.average_decay) if options.average == "ema" else None
        return cls(AveragedModel(network, multi_avg_fn=decaying))

    @property
    def network(self) -> nn.Module:
        """The network."""
        network: nn.Module = self.mean.module
        return network

    def update(self, network: nn.Module) -> None:
        """Take in another step's weights."""
        self.mean.update_parameters(network)
