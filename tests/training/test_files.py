"""A file that cannot be written is told, with what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from conveyor.errors import ConveyorError
from conveyor.training import files
from conveyor.training.fit import new_run


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk(number: int, tmp_path: Path) -> None:
    with (
        pytest.raises(ConveyorError, match=r"; make room; a training goes on with --resume$"),
        files.writing(tmp_path / "a"),
    ):
        raise OSError(number, os.strerror(number))


def test_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(ConveyorError, match=r"a/b/c: Not a directory; check the path and its permissions$"):
        files.write(tmp_path / "a" / "b" / "c", b"")


def test_forbidden_folder(tmp_path: Path, nobody: Callable[[], AbstractContextManager[None]]) -> None:
    with nobody(), pytest.raises(ConveyorError, match=r"Permission denied; check the path and its permissions$"):
        files.write(new_run(tmp_path, "task") / "config.json", b"")
