"""The text that every Python carries: the language reference and the sources of the standard library."""

from __future__ import annotations

import sysconfig
from pathlib import Path

from conveyor.errors import ConveyorError

LARGEST_SOURCE = 30_000
"""Bytes of the largest source file taken: with the reference about 1.9 MB, a few passes in two minutes."""


def read() -> str:
    """Topics of the reference and top-level modules, in one alphabet, so that every part of the text has both."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise ConveyorError(
            "[text] this Python has no pydoc_data.topics, the default text; give a text of your own with --data"
        ) from None
    folder = Path(sysconfig.get_path("stdlib"))
    sources = [file for file in folder.glob("*.py") if 0 < file.stat().st_size <= LARGEST_SOURCE]
    documents = {file.name: file.read_text(encoding="utf-8") for file in sources} | topics
    return "\n".join(documents[name] for name in sorted(documents))
