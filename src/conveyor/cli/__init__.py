"""The command line: a verb a file. `conveyor VERB --help` says more."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path

from conveyor.errors import ConveyorError
from conveyor.tasks import summaries
from conveyor.training.options import nearest


def main(args: list[str] | None = None) -> int:
    """Run a command line; the exit code. What a user can mend is said in one sentence on stderr."""
    verb, *rest = (sys.argv[1:] if args is None else args) or ["--help"]
    try:
        return _run(verb, rest)
    except ConveyorError as error:
        print(f"conveyor: {error}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.startswith("conveyor"):
            raise
        print(f"conveyor: this needs {missing.name}: pip install 'conveyor[tasks]'", file=sys.stderr)
        return 2
    except ImportError as refusal:
        if refusal.name is not None:  # a module that refuses to start has no name; one that lacks a name is our bug
            raise
        print(f"conveyor: {refusal}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader has left, as `head` does; what is still to be flushed goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("conveyor: stopped by Ctrl-C", file=sys.stderr)
        return 130


def _run(verb: str, args: list[str]) -> int:
    verbs = summaries(Path(__file__).parent)
    if verb in ("-h", "--help"):
        print("usage: conveyor VERB …\n\n" + table(verbs) + "\n\nconveyor VERB --help says more.")
        return 0
    if verb == "--version":
        from conveyor import __version__

        print(f"conveyor {__version__}")
        return 0
    if verb not in verbs:
        raise ConveyorError(f"unknown verb {verb!r}{nearest(verb, list(verbs))}; expected one of: {', '.join(verbs)}")
    import_module(f"conveyor.cli.{verb}").run(args)
    return 0


def wants_help(args: list[str], usage: str) -> bool:
    """Print the usage if it is asked for; refuse a command line that does not begin with what the verb acts on."""
    if args[:1] in (["-h"], ["--help"]):
        print(usage)
        return True
    if not args or args[0].startswith("-"):
        raise ConveyorError(usage)
    return False


def table(rows: dict[str, str]) -> str:
    """Names and what they mean, aligned."""
    width = max(map(len, rows))
    return "\n".join(f"  {name:{width}}  {meaning}" for name, meaning in rows.items())
