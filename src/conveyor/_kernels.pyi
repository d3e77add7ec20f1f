"""The compiled module, for the type checker; its arguments are said and checked in kernels/bindings.cpp."""

from typing import Any

def __getattr__(name: str) -> Any: ...
