"""Options of what a network trains on: examples, their augmentation, and sequences."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from host_tools.config.values import DB, MILLISECONDS, SHARE, share
from host_tools.options import Pair, Section, section
from kws_edge.errors import ConfigError
from kws_edge.ranges import number, whole
from kws_edge.settings import option

__all__ = ["VALIDATION_THRESHOLDS", "AugmentConfig", "MixConfig", "SequenceConfig"]

VALIDATION_THRESHOLDS = (0.5, 0.8)
"""Thresholds at which training of a network with state counts misses and false accepts."""


@dataclass(frozen=True, kw_only=True)
class AugmentConfig(Section):
    """How strongly training examples are varied."""

    title: ClassVar[str] = "augmentation"

    augmentation: float = option(
        number(0, 10), 1.0, help="strength of shift, speed, gain, noise and SpecAugment together; 0: none"
    )
    shift_ms: float = option(MILLISECONDS, 100.0, unit="ms", help="largest shift, before scaling by --augmentation")
    stretch: float = option(number(0, 2), 0.12, help="largest relative change of speed, and of the frequency scale")
    gain_db: tuple[float, float] = option(
        Pair(DB), (-15.0, 8.0), metavar=("LOW", "HIGH"), unit="dB", help="range of the gain in dB"
    )
    noise_share: float = share(0.6, "share of examples that get noise, before scaling by --augmentation")
    snr_db: tuple[float, float] = option(
        Pair(DB),
        (0.0, 40.0),
        metavar=("LOW", "HIGH"),
        unit="dB",
        help="range of the noise's signal-to-noise ratio in dB",
    )
    time_masks: int = option(whole(0, 100), 2, flag=False, help="spans of time that are masked")
    time_mask_ms: float = option(MILLISECONDS, 120.0, flag=False, unit="ms", help="longest masked span of time")
    frequency_masks: int = option(whole(0, 100), 2, flag=False, help="spans of bands that are masked")
    frequency_mask_share: float = option(SHARE, 0.12, flag=False, help="widest masked span, as a share of the bands")
    reverberation: float = share(0.0, "share of examples that get a room's response, before scaling")
    rt60_ms: tuple[float, float] = option(
        Pair(number(1, 10_000)), (150.0, 700.0), flag=False, unit="ms", help="range of the room's reverberation time"
    )
    direct_db: tuple[float, float] = option(
        Pair(DB), (-3.0, 12.0), flag=False, unit="dB", help="range of the direct sound over the reverberation"
    )
    equalisation_db: float = option(
        number(0, 200),
        0.0,
        unit="dB",
        help="largest gain of a part of the bands, as of another microphone, before scaling",
    )
    gated: float = share(
        0.15, "share of examples that are digitally silent outside the word, as behind a noise gate, before scaling"
    )
    hold_ms: tuple[float, float] = option(
        Pair(MILLISECONDS),
        (40.0, 250.0),
        flag=False,
        unit="ms",
        help="range of the time that the gate is open before the word and after it",
    )
    mixup: float = option(number(0, 100), 0.0, help="parameter of mixup's Beta distribution; 0: none")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.augmentation != 1:
            try:
                self.scaled()
            except ConfigError as error:
                raise ConfigError(f"{error} (times augmentation, which is {self.augmentation:g})") from None

    def scaled(self) -> AugmentConfig:
        """A copy whose ranges, masks and shares are multiplied by `augmentation`, which is then 1.

        An `augmentation` of 0 leaves examples as they are.
        """
        factor = self.augmentation
        low, high = self.gain_db
        return dataclasses.replace(
            self,
            augmentation=1.0,
            shift_ms=self.shift_ms * factor,
            stretch=self.stretch * factor,
            gain_db=(low * factor, high * factor),
            noise_share=min(1.0, self.noise_share * factor),
            time_mask_ms=self.time_mask_ms * factor,
            frequency_mask_share=min(1.0, self.frequency_mask_share * factor),
            equalisation_db=self.equalisation_db * factor,
            reverberation=min(1.0, self.reverberation * factor),
            gated=min(1.0, self.gated * factor),
        )


@dataclass(frozen=True, kw_only=True)
class MixConfig(Section):
    """What a batch is made of."""

    title: ClassVar[str] = "what a batch holds"

    silence_share: float = share(0.08, "share of a batch that is noise, at all levels")
    unknown_share: float = share(0.25, "share of a batch that is unknown words and speech")
    speech_share: float = share(0.3, "share of unknown that is continuous speech")
    hard_negatives: float = share(
        0.0, "share of unknown that is pairs of words and halves of keywords, as they are frequent in streams"
    )
    mined: float = share(
        0.0, "share of noise and speech in which the network hears keywords; they are searched before each epoch"
    )
    variety: float = share(
        0.0,
        "share of noise and speech with changed speed and pitch; noise also gets other bands and bursts",
    )
    hiss: float = share(0.0, "share of noise that is the quietest part of recorded words, repeated")
    babble: float = share(0.0, "share of the noise behind examples that is speech, 8 dB or more below them")
    audio_copies: int = option(
        whole(0, 100), 0, help="copies of each clip in synthetic rooms, at other speeds and levels, computed once"
    )
    augment: AugmentConfig = section(AugmentConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (total := self.silence_share + self.unknown_share) >= 1:
            raise ConfigError(
                f"MixConfig: silence_share and unknown_share leave nothing for keywords: {total:g} together"
            )
        if (total := self.speech_share + self.hard_negatives) > 1:
            raise ConfigError(
                f"MixConfig: speech_share and hard_negatives are more than all of unknown: {total:g} together"
            )


@dataclass(frozen=True, kw_only=True)
class SequenceConfig(Section):
    """What a network with state trains on: sequences of words over backgrounds."""

    title: ClassVar[str] = "sequences, for networks with state"

    sequence_s: float = option(number(1.5, 60), 4.0, unit="s", help="length of a sequence")
    wordless: float = share(0.3, "share of sequences without words")
    keyword_share: float = share(0.5, "share of words that are keywords")
    halves: float = share(0.06, "share of words that are the first or second half of a keyword, which is none")
    other_outputs: float = option(
        number(0, 10),
        0.3,
        help="weight of every other word with 50 recordings or more as an output that only trains; 0: no such outputs",
    )
    other_share: float = share(0.18, "share of words that have such an output")
    cut_speech: float = share(0.14, "share of words that are cut out of running speech")
    unreleased: float = share(0.3, "share of words such as cat that end before the release of their last stop")
    hiss_share: float = share(0.23, "share of sequences with quiet noise, besides those with noise")
    hiss_snr_db: tuple[float, float] = option(
        Pair(DB), (12.0, 60.0), flag=False, unit="dB", help="range of the signal-to-noise ratio of quiet noise"
    )
    speech_behind: float = share(0.42, "share of the noise behind words that is speech")
    speech_snr_db: tuple[float, float] = option(
        Pair(DB),
        (0.0, 28.0),
        metavar=("LOW", "HIGH"),
        unit="dB",
        help="range of the signal-to-noise ratio in dB of speech behind words",
    )
    narrow_band: float = share(0.12, "share of words without their lowest and highest bands")
    answer_ms: tuple[float, float] = option(
        Pair(MILLISECONDS),
        (100.0, 360.0),
        metavar=("FIRST", "LAST"),
        unit="ms",
        help="time after a word's end in which every answer shall be the word",
    )
    negatives: float = option(number(0, 100), 3.5, help="weight of answers that shall be no word")
    after_speech: float = option(number(0, 20), 5.0, help="how much the score of a word is lower after other speech")

    def __post_init__(self) -> None:
        super().__post_init__()
        if (total := self.keyword_share + self.halves + self.other_share + self.cut_speech) > 1:
            raise ConfigError(
                "SequenceConfig: keyword_share, halves, other_share and cut_speech are more than all words:"
                f" {total:g} together"
            )
        first, last = self.answer_ms
        if not first < last < 1000 * self.sequence_s:
            raise ConfigError(
                f"SequenceConfig: answer_ms {first:g} {last:g}: give an end after the start and within sequence_s,"
                f" {self.sequence_s:g} s"
            )
