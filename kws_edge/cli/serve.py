"""``kws-edge serve``: listen for months, and tell other programs."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from kws_edge.cli.guard import ended_by
from kws_edge.errors import UsageError
from kws_edge.text import printable

if TYPE_CHECKING:
    from kws_edge.cli.parser import Commands


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "serve",
        help="listen for months, and tell other programs",
        description="Listen to one room or several, and tell other programs what was heard: by JSON lines, commands, "
        "webhooks, MQTT, Wyoming or a web page. One TOML file says all. SIGHUP reads it and the model anew without "
        "losing a sample. Ctrl-C and SIGTERM end the service, with exit status 0.",
    )
    parser.add_argument("--config", metavar="FILE", help="the TOML file; with --web it may be missing")
    parser.add_argument("--web", action="store_true", help="serve the web page, even if the file has no section [web]")
    parser.add_argument("--check", action="store_true", help="check the file, the model and what they need, and end")
    parser.set_defaults(run=run)


def say(text: str) -> None:
    """Print a notice, from any thread."""
    sys.stderr.write(f"kws-edge: {printable(text)}\n")
    sys.stderr.flush()


def run(args: argparse.Namespace) -> None:
    if args.config is None and not args.web:
        raise UsageError("serve needs a TOML file: --config FILE; or give --web for the web page alone")
    asked: list[str] = []  # what signals ask for before the service is there
    ask: dict[str, Callable[[], None]] = {name: partial(asked.append, name) for name in ("end", "reload")}
    with contextlib.ExitStack() as stack:
        if not args.check:
            stack.enter_context(ended_by(lambda: ask["end"](), "SIGINT", "SIGTERM"))
            if hasattr(signal, "SIGHUP"):
                signal.signal(signal.SIGHUP, lambda *_: ask["reload"]())
            from kws_edge.service.memory import share_heap

            share_heap()
        from kws_edge.service.service import Service

        service = Service(args.config, notice=say, add=("web",) if args.web else ())
        if args.check:
            say(f"{args.config or 'serve --web'}: nothing is wrong")
            return
        ask |= {"end": service.end, "reload": service.reload}
        for name in asked:
            ask[name]()
        service.run()
