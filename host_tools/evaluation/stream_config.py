"""The options of a synthetic stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from host_tools.config import DB, SEED, SHARE
from host_tools.options import Pair, Section
from kws_edge.errors import ConfigError
from kws_edge.ranges import number, whole
from kws_edge.settings import option

__all__ = ["StreamConfig"]


@dataclass(frozen=True, kw_only=True)
class StreamConfig(Section):
    """Settings of a synthetic stream; see :func:`host_tools.evaluation.stream_synthesis.make_stream`.

    Raises
    ------
    ConfigError
        If a setting is out of range, or the stream would have no length.
    """

    title: ClassVar[str] = "stream"

    seconds: float | None = option(
        number(0.1, 10_000_000), None, metavar="S", unit="s", help="length of the stream; default: what the words need"
    )
    clips: int | None = option(
        whole(0, 10_000_000),
        None,
        metavar="N",
        help="keywords in the stream; default: as many as fit, or each once; clips repeat when all have been used",
    )
    others: int = option(whole(0, 10_000_000), 0, metavar="N", help="other words among the keywords")
    gap_s: tuple[float, float] = option(
        Pair(number(0, 3600)), (1.0, 2.5), metavar=("LOW", "HIGH"), unit="s", help="seconds between two clips, uniform"
    )
    snr_db: tuple[float, float] | None = option(
        Pair(DB),
        None,
        metavar=("LOW", "HIGH"),
        unit="dB",
        help="dB of each word over the background, uniform; default: words and backgrounds keep their levels",
    )
    gain_db: float = option(DB, 0.0, unit="dB", help="gain on the whole stream")
    rooms: float = option(SHARE, 0.0, metavar="SHARE", help="share of words with a synthetic room's response")
    gate_db: float | None = option(
        number(1, 90),
        None,
        metavar="DB",
        unit="dB",
        help="noise gate: digital silence, except from where a word rises to DB below its peak to where it falls so"
        " far, and 60 ms around; default: no gate",
    )
    seed: int = option(SEED, 0, help="seed of all choices")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seconds is None and self.clips == 0 and not self.others:
            raise ConfigError("StreamConfig: a stream without words has no length: give seconds")
