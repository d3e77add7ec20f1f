"""Recurrent layers, drop-in for those of `torch.nn`."""

from conveyor.nn.cells import GRUCell, LSTMCell, RNNCell
from conveyor.nn.gru import GRU
from conveyor.nn.lstm import LSTM
from conveyor.nn.replace import replace, restore
from conveyor.nn.rnn import RNN

__all__ = ["LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell", "replace", "restore"]
