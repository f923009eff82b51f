"""The command ``kws-edge``. Each subcommand is a module with ``add`` (its arguments) and ``run``."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # of typing, which takes longer to load than the rest of a start
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

__all__ = ["main", "program"]

_COMMANDS = ("detect", "listen", "classify", "calibrate", "doctor", "bench", "demo", "devices", "info")

_DESCRIPTION = """\
Hear keywords in recordings and live audio, without a cloud.

Exit status: 0 success, 1 an error that is explained in one line, 2 wrong usage, 74 output that cannot be written, 130
interrupted; doctor has its own.
"""


def _parser(argv: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The parser of `argv`; of the commands, only the one that is named there is loaded, if one is."""
    import argparse
    import importlib

    import kws_edge

    parser = argparse.ArgumentParser(
        prog="kws-edge", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"kws-edge {kws_edge.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in argv[:1] if argv and argv[0] in _COMMANDS else _COMMANDS:
        importlib.import_module(f"kws_edge.cli.{name}").add(commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""

    def work(argv: Sequence[str]) -> int | None:
        args = _parser(argv).parse_args(argv)
        return args.run(args)

    return program("kws-edge", work, argv)


def program(name: str, work: Callable[[Sequence[str]], int | None], argv: Sequence[str] | None) -> int:
    """Run `work` on the arguments, by default the process's own; return its exit status, see :mod:`kws_edge.cli.guard`.

    `work` loads what it needs, and so does this: Ctrl-C is to have no traceback meanwhile, either.
    """
    try:
        from kws_edge.cli.guard import guarded

        return guarded(name, lambda: work(sys.argv[1:] if argv is None else argv), last=argv is None)
    except KeyboardInterrupt:  # before there is a guard
        return 130
