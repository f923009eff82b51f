"""Who speaks: ``kws-edge teach --me`` makes the user's voice known, and ``--only-me`` leaves out what others say."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kws_edge.cli.say import say
from kws_edge.errors import AudioError, UsageError
from kws_edge.text import counted, printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kws_edge.audio.source import Source
    from kws_edge.detection.detector import Detection
    from kws_edge.model.model import Model
    from kws_edge.spotter import Spotter
    from kws_edge.voice.me import Me

__all__ = ["add_only_me", "check_files", "hear_utterances", "load_me", "read_utterance", "tell_of_others"]

_LONGEST_S = 3.0
_MOST_REFUSED = 10


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


def _embedding(me: Me, samples: NDArray[np.int16]) -> NDArray[np.float32]:
    from kws_edge.teach.takes import find_word

    find_word(samples, me.model.frontend_config.sample_rate, _LONGEST_S)
    return me.embedding(samples)


def read_utterance(me: Me, name: str) -> NDArray[np.float32]:
    """The voice in a recording; an error names the recording."""
    from kws_edge.audio.file import AudioFile
    from kws_edge.teach.takes import TakeError

    with AudioFile(name, sample_rate=me.model.frontend_config.sample_rate) as audio:
        try:
            return _embedding(me, audio.read_all())
        except TakeError as error:
            raise TakeError(f"{printable(name)}: {error}") from None


def hear_utterances(me: Me, live: Iterator[NDArray[np.int16]], source: Source) -> list[NDArray[np.float32]]:
    """The voice in each of ten utterances that `live` yields of `source`. Standard error tells of each."""
    from kws_edge.teach.takes import TakeError
    from kws_edge.voice.me import UTTERANCES

    found: list[NDArray[np.float32]] = []
    refused = 0
    for recording in live:
        try:
            one = _embedding(me, recording)
            me.check_match(one, found)
        except TakeError as error:
            refused += 1
            say(f"refused: {error}")
            if refused >= _MOST_REFUSED:
                raise AudioError(f"{refused} utterances were refused, the last: {error}") from None
            continue
        found.append(one)
        say(f"utterance {len(found)} of {UTTERANCES} is good")
        if len(found) == UTTERANCES:
            return found
    raise AudioError(f"{source.name}: ended after {counted(len(found), 'good utterance')} of {UTTERANCES}")
