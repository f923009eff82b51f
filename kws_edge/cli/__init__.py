"""The command ``kws-edge``. Each subcommand is a module with ``add`` (its arguments) and ``run``."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # not imported: typing takes longer to load than the rest of a start
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kws_edge.cli.parser import Parser

__all__ = ["main", "program"]

_COMMANDS = (
    "detect",
    "listen",
    "serve",
    "service",
    "classify",
    "teach",
    "calibrate",
    "doctor",
    "bench",
    "demo",
    "devices",
    "info",
)


def make_parser(argv: Sequence[str] = ()) -> Parser:
    """Return the parser of `argv`. If `argv` names a command, only that command is loaded."""
    import importlib

    from kws_edge.cli.parser import STATUSES, Parser

    parser = Parser(
        prog="kws-edge",
        description="Hear keywords in recordings and live audio, without a cloud.",
        epilog=f"{STATUSES}; doctor has its own. kws-edge COMMAND --help describes a command.",
    )
    commands = parser.add_commands()
    for name in argv[:1] if argv and argv[0] in _COMMANDS else _COMMANDS:
        importlib.import_module(f"kws_edge.cli.{name}").add(commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""

    def work(argv: Sequence[str]) -> int | None:
        args = make_parser(argv).parse_args(argv)
        status: int | None = args.run(args)
        return status

    return program("kws-edge", work, argv)


def program(name: str, work: Callable[[Sequence[str]], int | None], argv: Sequence[str] | None) -> int:
    """Run `work` on `argv`, by default the process's arguments; return the exit status (see :mod:`kws_edge.cli.guard`).

    `work` and this function import what they need when they run, so that Ctrl-C gives no traceback during an import.
    """
    try:
        from kws_edge.cli.guard import guarded

        return guarded(name, lambda: work(sys.argv[1:] if argv is None else argv), last=argv is None)
    except KeyboardInterrupt:  # before the guard is active
        return 130
