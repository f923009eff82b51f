"""Who speaks: ``kws-edge teach --me`` makes the user's voice known, and ``--only-me`` leaves out what others say."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from kws_edge.cli.say import say
from kws_edge.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kws_edge.detection.detector import Detection
    from kws_edge.model.model import Model
    from kws_edge.spotter import Spotter
    from kws_edge.voice.me import Me

__all__ = ["add_only_me", "check_files", "load_me", "tell_of_others", "utterance"]

_LONGEST_S = 3.0


def add_only_me(parser: argparse.ArgumentParser) -> None:
    """Add the option that leaves out what other people say."""
    parser.add_argument(
        "--only-me",
        action="store_true",
        help="leave out detections that do not sound like the voice of kws-edge teach --me; for convenience, not for "
        "security: similar voices and recordings pass",
    )


def load_me(model: Model) -> Me:
    """The voice of the user; this module's commands alone load what it takes."""
    from kws_edge.voice.me import Me

    return Me(model)


def tell_of_others(spotter: Spotter) -> None:
    """Let standard error tell of detections that are left out, so that the device does not seem deaf."""

    def tell(found: Detection, likeness: float) -> None:
        say(f"{found.keyword} at {found.end_s:.2f} s left out: not your voice (likeness {likeness:.2f})")

    if spotter.only_me is not None:
        spotter.only_me.on_other = tell


def check_files(words: list[str]) -> list[str]:
    """The recordings of ``teach --me``, or none for a live source."""
    if "-" in words and len(words) > 1:
        raise UsageError("teach takes recordings or - for standard input, not both")
    return [] if words == ["-"] else words


def utterance(me: Me, samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """The voice in a recording; a TakeError says what is wrong with it."""
    from kws_edge.teach.takes import find_word

    find_word(samples, me.model.frontend_config.sample_rate, _LONGEST_S)
    return me.embedding(samples)
