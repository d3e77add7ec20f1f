"""Dataclasses filled from the command line, by tyro; mistakes in one sentence."""

from __future__ import annotations

import contextlib
import io
import itertools
import re
from typing import Any, TypeVar

import tyro

from conveyor.errors import ConveyorError
from conveyor.training.options import flag, flat, nearest

T = TypeVar("T")


def parse(cls: type[T], args: list[str], command: str, default: T) -> T:
    """`cls` with the options in `args`; those not given are as in `default`."""
    switches = [f"no_{name}" for name, value in flat(default) if isinstance(value, bool)]
    _refuse_unknown(args, [flag(name) for name in [*dict(flat(default)), *switches]], command)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parsed = tyro.cli(cls, args=args, prog=command, default=default, config=(tyro.conf.OmitArgPrefixes,))
    except SystemExit as end:
        if end.code in (0, None):
            raise
        raise ConveyorError(f"[options] {_sentence(said.getvalue())}; {command} --help lists all") from None
    _refuse_empty(parsed, args)
    return parsed


def value_of(name: str, args: list[str]) -> str | None:
    """What the command line gives an option that says what the others begin with."""
    for place, arg in enumerate(args):
        if arg == name and place + 1 < len(args):
            return args[place + 1]
        if arg.startswith(f"{name}="):
            return arg.partition("=")[2]
    return None


def _refuse_unknown(args: list[str], known: list[str], command: str) -> None:
    for arg in args:
        name = _name(arg)
        if name == "--":
            return
        if name.startswith("--") and name not in [*known, "--help"]:
            raise ConveyorError(f"[options] unknown option {name}{nearest(name, known)}; {command} --help lists all")


def _refuse_empty(options: Any, args: list[str]) -> None:
    """Without its values an option that takes many would be as if it was not given: `--data $FORGOTTEN`."""
    given = {_name(arg) for arg in args}
    for name, value in flat(options):
        if flag(name) in given and isinstance(value, tuple) and not (value and all(value)):
            raise ConveyorError(
                f"[options] {flag(name)}: expected one value or more, none of them empty, got {value!r}"
            )


def _name(arg: str) -> str:
    """The option of an argument that names one, with dashes."""
    return arg.partition("=")[0].replace("_", "-")


def _sentence(box: str) -> str:
    """What stands under the title of tyro's box, up to the next rule; the lines are drawn in Unicode or in ASCII."""
    lines = [line.strip("│ ") for line in box.splitlines()[1:]]
    parts = [list(group) for is_rule, group in itertools.groupby(lines, _is_rule) if not is_rule]
    return " ".join(parts[0]).rstrip(".")


def _is_rule(line: str) -> bool:
    return re.fullmatch("[─╰╯-]+", line) is not None
