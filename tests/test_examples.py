"""The examples in the docstrings run and show what they say."""

import doctest
import pkgutil
from importlib import import_module

import pytest

import conveyor

MODULES = [module.name for module in pkgutil.walk_packages(conveyor.__path__, "conveyor.") if not module.ispkg]


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith(("._kernels", ".__main__"))])
def test_examples(name: str) -> None:
    assert doctest.testmod(import_module(name)).failed == 0
