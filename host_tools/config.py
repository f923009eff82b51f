"""All options of a training: the values that each takes, its default, its unit and its purpose."""

from __future__ import annotations

import dataclasses
from argparse import ArgumentTypeError
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from host_tools.data.label_sets import label_set
from host_tools.errors import DatasetError
from host_tools.options import Pair, Place, Places, Section, Wholes, plain, section
from kws_edge.config import PRESETS
from kws_edge.errors import ConfigError
from kws_edge.labels import SILENCE
from kws_edge.ranges import number, whole
from kws_edge.settings import Choice, Text, option
from kws_edge.text import shown

__all__ = [
    "DB",
    "NETWORKS",
    "SEED",
    "SHARE",
    "STREAM_NETWORKS",
    "AugmentConfig",
    "DataConfig",
    "MixConfig",
    "NetworkConfig",
    "OptimConfig",
    "SequenceConfig",
    "StageConfig",
    "WeightsConfig",
]

STREAM_NETWORKS = ("stream_residual", "stream_micro")
"""Networks with state: they train on sequences and answer at every step of a stream."""
NETWORKS = ("residual", "micro", "cnn_reference", *STREAM_NETWORKS)
"""Names of the networks that come with this package."""
SEED = whole(0, 2**32 - 1)
SHARE = number(0, 1)
DB = number(-200, 200)
_MS = number(0, 10_000)


def _share(default: float, help: str) -> Any:
    return option(SHARE, default, unit="share", help=help)


def _numbers_by_label(text: str) -> dict[str, float]:
    """A ``type`` that reads ``LABEL=X``, separated by commas."""
    found: dict[str, float] = {}
    for part in text.split(",") if text else []:
        label, _, value = part.rpartition("=")
        if label in found:
            raise ArgumentTypeError(f"must name each label once, got {shown(label)} twice")
        found[label] = number(-100, 100)(value)
    return found


def _label_set(text: str) -> tuple[str, ...]:
    """A ``type`` that reads what :func:`label_set` does."""
    try:
        return label_set(text)
    except DatasetError as error:
        raise ArgumentTypeError(f"must be a label set or a list of words: {error}") from None


def _network(text: str) -> None:
    """A ``type`` that raises an error unless `text` is the name of a network, or of one's own."""
    if text not in NETWORKS and ":" not in text:
        raise ArgumentTypeError(
            f"must be one of {', '.join(NETWORKS)}, or your own as MODULE:FUNCTION, got {shown(text)}"
        )


@dataclass(frozen=True, kw_only=True)
class DataConfig(Section):
    """Folders that examples come from."""

    title: ClassVar[str] = "data"

    clips: Path = option(Place(), metavar="DATA", help="folder laid out <word>/<speaker>_nohash_<n>.wav")
    features: Path | None = option(Place(), None, metavar="DIR", help="precomputed features.npy with manifest.tsv")
    speech: Path | None = option(
        Place(), None, metavar="DIR", help="speech without the keywords; the half chosen by speaker is used"
    )
    noise: Path | None = option(
        Place(), None, metavar="DIR", help="noise without speech; the half chosen by speaker is used"
    )
    synthetic: Path | None = option(Place(), None, metavar="DIR", help="words and speech made by kws-host synthesize")
    more_speech: tuple[Path, ...] = option(
        Places(), (), metavar="DIR", help="speech, such as kws-host collect fetches; all of it trains"
    )
    more_noise: tuple[Path, ...] = option(
        Places(), (), metavar="DIR", help="noise, such as kws-host collect fetches; all of it trains"
    )
    site: Path | None = option(
        Place(),
        None,
        metavar="DIR",
        help="clips that kws-edge serve kept where the model is used, its folder words; all of them train",
    )
    also_said: Path | None = option(
        Place(),
        None,
        metavar="CSV",
        help="where keywords are said in the speech (recording,start_s,end_s,label): not trained on",
    )
    split: str = option(
        Choice("official", "random"), "official", help="by speaker, or 70/15/15 at random, which leaks speakers"
    )
    cache: Path | None = option(Place(), None, metavar="DIR", help="where features are kept; default: the user's cache")

    def folders(self) -> dict[str, tuple[Path, ...]]:
        """The folders and files that are given, except the cache, by the name of their field."""
        given = {name: value for name, value in self.values().items() if name not in ("split", "cache")}
        return {
            name: value if isinstance(value, tuple) else (value,)
            for name, value in given.items()
            if value is not None and value != ()
        }

    def to_dict(self) -> dict[str, Any]:
        """The section as a JSON-ready dict, without the cache, on which no result depends."""
        return {name: value for name, value in super().to_dict().items() if name != "cache"}


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(Section):
    """What is trained."""

    title: ClassVar[str] = "network"

    model: str = option(
        Text(_network),
        "residual",
        metavar="NAME|MODULE:FUNCTION",
        help=f"network: {', '.join(NETWORKS)}, or your own function(input_shape, classes) of a module in the"
        " current folder",
    )
    width: float = option(number(0.01, 100), 1.0, help="factor on the network's channels")
    frontend: str = option(Choice(*PRESETS), "logmel40", help="front-end preset")
    labels: str = option(
        Text(_label_set),
        "commands12",
        metavar="NAME|A,B,...",
        help="keywords: a label set (commands12, words36), or words: hello,lamp",
    )

    @property
    def streams(self) -> bool:
        """Whether it has state, and so trains on sequences."""
        return self.model in STREAM_NETWORKS

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of its outputs. A network with state has none for silence: then no word is said."""
        return tuple(name for name in label_set(self.labels) if not (self.streams and name == SILENCE))


@dataclass(frozen=True, kw_only=True)
class OptimConfig(Section):
    """How long and how fast it is trained."""

    title: ClassVar[str] = "length"

    epochs: int = option(whole(0, 10_000), 40, help="epochs in all; 0: only take over weights")
    lengthened: tuple[int, ...] = option(
        Wholes(), (), flag=False, help="epochs that the run had before each time it was lengthened"
    )
    minutes: float = option(
        number(0, 1_000_000),
        0.0,
        metavar="N",
        help="time to train, features included, instead of a number of epochs",
    )
    steps: int = option(whole(1, 1_000_000), 300, help="batches an epoch")
    batch_size: int = option(whole(1, 16_384), 160, help="examples a batch")
    learning_rate: float = option(number(1e-9, 10), 2e-3, help="peak of the learning rate")
    weight_decay: float = option(number(0, 1), 0.02, help="weight decay of AdamW")
    smoothing: float = option(SHARE, 0.1, flag=False, help="label smoothing")
    words_first: float = _share(
        0.0, "share of the time, at the beginning, in which every word with 50 recordings or more is a label"
    )
    keep: str = option(
        Choice("best", "last"),
        "best",
        help="epoch whose weights are kept: the best on validation examples, or the last for gains that they hide",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lengthened and self.lengthened[-1] >= self.epochs:
            raise ConfigError(
                f"OptimConfig: lengthened {self.lengthened} must be below epochs, which are {self.epochs}"
            )


@dataclass(frozen=True, kw_only=True)
class AugmentConfig(Section):
    """How strongly training examples are varied."""

    title: ClassVar[str] = "augmentation"

    augmentation: float = option(
        number(0, 10), 1.0, help="strength of shift, speed, gain, noise and SpecAugment together; 0: none"
    )
    shift_ms: float = option(_MS, 100.0, unit="ms", help="largest shift, before scaling by --augmentation")
    stretch: float = option(number(0, 2), 0.12, help="largest relative change of speed, and of the frequency scale")
    gain_db: tuple[float, float] = option(
        Pair(DB), (-15.0, 8.0), metavar=("LOW", "HIGH"), unit="dB", help="range of the gain in dB"
    )
    noise_share: float = _share(0.6, "share of examples that get noise, before scaling by --augmentation")
    snr_db: tuple[float, float] = option(
        Pair(DB),
        (0.0, 40.0),
        metavar=("LOW", "HIGH"),
        unit="dB",
        help="range of the noise's signal-to-noise ratio in dB",
    )
    time_masks: int = option(whole(0, 100), 2, flag=False, help="spans of time that are masked")
    time_mask_ms: float = option(_MS, 120.0, flag=False, unit="ms", help="longest masked span of time")
    frequency_masks: int = option(whole(0, 100), 2, flag=False, help="spans of bands that are masked")
    frequency_mask_share: float = option(SHARE, 0.12, flag=False, help="widest masked span, as a share of the bands")
    reverberation: float = _share(0.0, "share of examples that get a room's response, before scaling")
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
    gated: float = _share(
        0.15, "share of examples that are digitally silent outside the word, as behind a noise gate, before scaling"
    )
    hold_ms: tuple[float, float] = option(
        Pair(_MS),
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

    silence_share: float = _share(0.08, "share of a batch that is noise, at all levels")
    unknown_share: float = _share(0.25, "share of a batch that is unknown words and speech")
    speech_share: float = _share(0.3, "share of unknown that is continuous speech")
    hard_negatives: float = _share(
        0.0, "share of unknown that is pairs of words and halves of keywords, as they are frequent in streams"
    )
    mined: float = _share(
        0.0, "share of noise and speech in which the network hears keywords; they are searched before each epoch"
    )
    variety: float = _share(
        0.0,
        "share of noise and speech with changed speed and pitch; noise also gets other bands and bursts",
    )
    hiss: float = _share(0.0, "share of noise that is the quietest part of recorded words, repeated")
    babble: float = _share(0.0, "share of the noise behind examples that is speech, 8 dB or more below them")
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
    wordless: float = _share(0.3, "share of sequences without words")
    keyword_share: float = _share(0.5, "share of words that are keywords")
    halves: float = _share(0.06, "share of words that are the first or second half of a keyword, which is none")
    other_outputs: float = option(
        number(0, 10),
        0.3,
        help="weight of every other word with 50 recordings or more as an output that only trains; 0: no such outputs",
    )
    other_share: float = _share(0.18, "share of words that have such an output")
    cut_speech: float = _share(0.14, "share of words that are cut out of running speech")
    unreleased: float = _share(0.3, "share of words such as cat that end before the release of their last stop")
    hiss_share: float = _share(0.23, "share of sequences with quiet noise, besides those with noise")
    hiss_snr_db: tuple[float, float] = option(
        Pair(DB), (12.0, 60.0), flag=False, unit="dB", help="range of the signal-to-noise ratio of quiet noise"
    )
    speech_behind: float = _share(0.42, "share of the noise behind words that is speech")
    speech_snr_db: tuple[float, float] = option(
        Pair(DB),
        (0.0, 28.0),
        metavar=("LOW", "HIGH"),
        unit="dB",
        help="range of the signal-to-noise ratio in dB of speech behind words",
    )
    narrow_band: float = _share(0.12, "share of words without their lowest and highest bands")
    answer_ms: tuple[float, float] = option(
        Pair(_MS),
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


@dataclass(frozen=True, kw_only=True)
class WeightsConfig(Section):
    """The weights that a run starts from, and the teachers that it learns from besides labels."""

    title: ClassVar[str] = "weights to start from, and teachers"

    start: str = option(
        Text(),
        "",
        metavar="RUN|FILE",
        help="weights to start from: a run, a Keras file, or an INT8 model file such as commands12",
    )
    blend: str = option(Text(), "", metavar="RUN", help="average the weights to start from with this run's")
    blend_share: float = _share(0.5, "share of --blend")
    log_prior: str = option(
        Text(_numbers_by_label),
        "",
        metavar="LABEL=X[,...]",
        help="add X to the logit of LABEL at the start, as if the label were e^X times likelier",
    )
    teacher: str = option(
        Text(), "", metavar="RUN[,RUN]", help="distil from this run, or from the mean of these runs' posteriors"
    )
    teacher_weight: float = _share(0.5, "share of --teacher in the targets")
    qat: str = option(
        Text(), "", flag=False, metavar="RUN", help="run to fine-tune with fake quantisation; empty: none"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.blend and not self.start:
            raise ConfigError("WeightsConfig: blend averages with weights to start from: give start, too")

    @property
    def shifts(self) -> dict[str, float]:
        """What `log_prior` adds to the logits, by label."""
        return _numbers_by_label(self.log_prior)


_OF_CLIPS = (
    *("smoothing", "words_first", "silence_share", "unknown_share", "speech_share", "hard_negatives", "hiss", "babble"),
    *("shift_ms", "time_masks", "time_mask_ms", "frequency_masks", "frequency_mask_share", "mixup"),
    *("blend", "log_prior", "teacher"),
)
"""Options of networks without state, which train on clips."""


@dataclass(frozen=True, kw_only=True)
class StageConfig(Section):
    """Everything that a training depends on."""

    data: DataConfig = section(DataConfig, required=True)
    network: NetworkConfig = section(NetworkConfig)
    optim: OptimConfig = section(OptimConfig)
    mix: MixConfig = section(MixConfig)
    sequences: SequenceConfig = section(SequenceConfig)
    weights: WeightsConfig = section(WeightsConfig)
    seed: int = option(SEED, 1, help="seed of weights, batches and augmentation")

    def __post_init__(self) -> None:
        super().__post_init__()
        if strange := [one for one in self.weights.shifts if one not in label_set(self.network.labels)]:
            raise ConfigError(
                f"StageConfig: log_prior: {shown(strange[0])} is none of the labels, which are"
                f" {', '.join(label_set(self.network.labels))}"
            )
        if not (self.optim.epochs or self.optim.minutes or self.weights.start or self.weights.qat):
            raise ConfigError("StageConfig: no epochs to train, and no weights to start from: give epochs or start")
        self._check_form()

    @property
    def _absent(self) -> Collection[str]:
        """Names of the options that the form of network does not have."""
        return _OF_CLIPS if self.network.streams else SequenceConfig.options()

    def _check_form(self) -> None:
        """Raise an error if such an option is set."""
        about, values, streams = self.options(), self.values(), self.network.streams
        if wrong := [name for name in self._absent if values[name] != about[name].default]:
            form, other = ("without", "with") if streams else ("with", "without")
            raise ConfigError(
                f"StageConfig: {wrong[0]} is for networks {form} state, {self.network.model} is one {other} it"
            )

    def settings(self) -> dict[str, Any]:
        """The JSON-ready value of every option, by name, except options that say where the data lie."""
        places = {name for name in self.data.values() if name != "split"}
        return {name: plain(value) for name, value in self.values().items() if name not in places}

    def summary(self) -> dict[str, Any]:
        """:meth:`settings` of this form of network, without the defaults of options that no command can change."""
        about = self.options()
        return {
            name: value
            for name, value in self.settings().items()
            if name not in self._absent
            and (about[name].metadata.get("flag", True) or value != plain(about[name].default))
        }
