"""What a trained LSTM does inside: its gates recorded, measured, drawn, and shown in the browser."""

from conveyor.inspect.gates import gates
from conveyor.inspect.picture import picture
from conveyor.inspect.recording import Recording, record

__all__ = ["Recording", "gates", "picture", "record"]
