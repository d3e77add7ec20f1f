"""What a trained LSTM does inside: its gates recorded, and a picture of them."""

from conveyor.inspect.picture import picture
from conveyor.inspect.record import record

__all__ = ["picture", "record"]
