"""The option for words that ``kws-edge teach`` taught."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from kws_edge.errors import ConfigError

if TYPE_CHECKING:
    from kws_edge.model.model import Model
    from kws_edge.teach.words import TaughtWords

__all__ = ["add_taught", "load_taught", "taught_words"]


def add_taught(parser: argparse.ArgumentParser) -> None:
    """Add the option that lets taught words count."""
    parser.add_argument(
        "--taught", action="store_true", help="hear the words, too, that kws-edge teach taught this model"
    )


def taught_words(args: argparse.Namespace, model: Model) -> TaughtWords | None:
    """The taught words, if the option asks for them.

    Raises
    ------
    ConfigError
        If no word is taught.
    """
    if not args.taught:
        return None
    if not (found := load_taught(model)):
        raise ConfigError(f"{found.path}: no words are taught; kws-edge teach WORD teaches one")
    return found


def load_taught(model: Model, path: str | None = None) -> TaughtWords:
    """The words that were taught to `model`. Standard error tells of a damaged file whose copy is read.

    Raises
    ------
    ConfigError
        As :class:`kws_edge.TaughtWords` does, and if there is no file `path`.
    """
    from kws_edge.teach.words import TaughtWords, taught_path  # commands without taught words do not need it

    if path is not None and not os.path.exists(path):
        raise ConfigError(f"{path}: no such file; kws-edge teach WORD writes {taught_path(model)}")
    found = TaughtWords(model, path)
    if found.repaired:
        print(f"kws-edge: warning: {found.repaired}", file=sys.stderr)
    return found
