"""Recurrent layers, drop-in for those of `torch.nn`."""

from conveyor.nn.lstm import LSTM
from conveyor.nn.rnn import RNN

__all__ = ["LSTM", "RNN"]
