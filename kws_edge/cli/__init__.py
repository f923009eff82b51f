"""The command ``kws-edge``. Each subcommand is a module with ``add`` (its arguments) and ``run``."""

from __future__ import annotations

import argparse
import codecs
import contextlib
import importlib
import os
import sys
from collections.abc import Sequence

from kws_edge.errors import KwsError, UsageError
from kws_edge.native import own_stderr

_COMMANDS = ("detect", "listen", "classify", "calibrate", "doctor", "bench", "demo", "devices", "info")

_DESCRIPTION = """\
Hear keywords in recordings and live audio, without a cloud.

Exit status: 0 success, 1 an error that is explained in one line, 2 wrong usage, 130 interrupted; doctor has its own.
"""


def _parser(argv: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The parser of `argv`; of the commands, only the one that is named there is loaded, if one is."""
    import kws_edge

    parser = argparse.ArgumentParser(
        prog="kws-edge", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"kws-edge {kws_edge.__version__}")
    parser.set_defaults(listens=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in argv[:1] if argv and argv[0] in _COMMANDS else _COMMANDS:
        importlib.import_module(f"kws_edge.cli.{name}").add(commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    argv = sys.argv[1:] if argv is None else argv
    args = _parser(argv).parse_args(argv)
    # To the last word where a command listens: a sound server that hangs may keep a thread of PortAudio busy.
    with own_stderr() if args.listens else contextlib.nullcontext():
        return guarded("kws-edge", lambda: args.run(args))


def guarded(program: str, work) -> int:
    """Run `work`, turning errors meant for people into one line and an exit status."""
    codecs.register_error("as_it_can", _as_it_can)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="as_it_can")
    try:
        status = work() or 0
        sys.stdout.flush()
        return status
    except KwsError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except BrokenPipeError:
        # The reader of our output has gone, as `head` does: not an error, and nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130


def _as_it_can(error: UnicodeError) -> tuple[str | bytes, int]:
    """What standard output cannot encode: bytes of file names that are no text go out as they came, others escaped."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeEncodeError as failed:
        return codecs.backslashreplace_errors(failed)
