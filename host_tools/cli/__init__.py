"""The command ``kws-host``. Each subcommand is a module with ``add`` (its arguments) and ``work``."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
from collections.abc import Sequence

from kws_edge.cli.parser import STATUSES, Parser
from kws_edge.errors import RuntimeUnavailableError, extra

__all__ = ["main", "make_parser", "parse"]

_COMMANDS = (
    "download",
    "index",
    "features",
    "train",
    "qat",
    "compare",
    "synthesize",
    "collect",
    "quantize",
    "confirm",
    "export-microwakeword",
    "encoder",
    "voices",
    "evaluate",
    "report",
    "card",
    "import",
    "make-stream",
    "stream-eval",
    "calibrate",
    "recipe",
    "sweep",
)
_MODULES = {"import": "model_import"}
"""Modules of the commands whose names no module can have."""
_DESCRIPTION = f"""\
Train, quantise and evaluate keyword models on a workstation. Install what that takes: {extra("host")}

  kws-host train DATA -o runs/first
  kws-host quantize runs/first -o first.tflite
  kws-host evaluate first.tflite --clips CLIPS
"""


def make_parser(argv: Sequence[str] = ()) -> Parser:
    """The parser of `argv`. If `argv` names a command, only that command is loaded."""
    parser = Parser(
        prog="kws-host",
        description=_DESCRIPTION,
        epilog=f"{STATUSES}. kws-host COMMAND --help describes a command.",
    )
    commands = parser.add_commands()
    for name in argv[:1] if argv and argv[0] in _COMMANDS else _COMMANDS:
        module = _MODULES.get(name, name.replace("-", "_"))
        importlib.import_module(f"host_tools.cli.{module}").add(commands)
    return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line. A command's ``defaults`` may change the defaults; the line is then parsed again."""
    parser = make_parser(argv)
    args = parser.parse_args(argv)
    if "defaults" in args and args.defaults(args):
        return parser.parse_args(argv)
    return args


def main(argv: Sequence[str]) -> None:
    """Run the command. Failures are raised as exceptions."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # TensorFlow chooses oneDNN by the processor, and announces it. Weights that a seed gives would then depend on it.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # its advice on retracing is not for this command's user

    try:
        args = parse(argv)
        args.work(args)
    except ImportError as error:
        raise _unavailable(error) from None
    except ValueError as error:
        if not str(error).startswith("Unable to import backend"):  # as Keras says it
            raise
        raise _unavailable(error) from None


def _unavailable(error: Exception) -> RuntimeUnavailableError:
    """The error for a Keras, or a backend of it, that cannot be loaded; it says what to do."""
    backend = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if backend == "tensorflow" and isinstance(error, ImportError):
        return RuntimeUnavailableError(f"{error}; install the workstation tools: {extra('host')}")
    how = f" by {extra('jax')}" if backend == "jax" else ""
    return RuntimeUnavailableError(
        f"Keras cannot be loaded ({error}); install its backend{how}, or set KERAS_BACKEND to tensorflow, jax or torch"
    )
