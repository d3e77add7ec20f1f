"""Conveyor: LSTMs on their own C++ kernels.

`import conveyor` loads neither torch nor the kernels; each name below loads its room of the house when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conveyor.explanation import explain
    from conveyor.nn import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
    from conveyor.nn.replace import replace, restore
    from conveyor.ops.threads import get_num_threads, set_num_threads
    from conveyor.tasks import load
    from conveyor.variant import VARIANTS, Variant

__version__ = "0.1.0"

__all__ = [
    "LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell", "explain", "replace", "restore",
    "get_num_threads", "set_num_threads", "load", "VARIANTS", "Variant", "__version__",
]  # fmt: skip

# Where each name lives, and the extra that brings what it needs.
_HOMES = {
    **dict.fromkeys(("LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell"), ("conveyor.nn", "torch")),
    **dict.fromkeys(("replace", "restore"), ("conveyor.nn", "torch")),
    "explain": ("conveyor.explanation", "torch"),
    "get_num_threads": ("conveyor.ops.threads", "torch"),
    "load": ("conveyor.tasks", "tasks"),
    "set_num_threads": ("conveyor.ops.threads", "torch"),
    **dict.fromkeys(("VARIANTS", "Variant"), ("conveyor.variant", "torch")),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'conveyor' has no attribute {name!r}")
    home, extra = _HOMES[name]
    try:
        value = getattr(import_module(home), name)
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.startswith("conveyor"):
            raise
        raise ImportError(f"conveyor.{name} needs {missing.name}: pip install 'conveyor[{extra}]'") from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
