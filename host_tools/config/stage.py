"""Options of a training, and of its parts: data, network, optimizer and weights."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from host_tools.config.mix import MixConfig, SequenceConfig
from host_tools.config.values import SEED, SHARE, share
from host_tools.data.label_sets import label_set
from host_tools.errors import DatasetError
from host_tools.options import Place, Places, Section, Wholes, plain, section
from kws_edge.errors import ConfigError
from kws_edge.labels import SILENCE
from kws_edge.presets import PRESETS
from kws_edge.ranges import number, whole
from kws_edge.settings import Choice, Text, option
from kws_edge.text import shown

__all__ = [
    "NETWORKS",
    "STREAM_NETWORKS",
    "DataConfig",
    "NetworkConfig",
    "OptimConfig",
    "StageConfig",
    "WeightsConfig",
]

STREAM_NETWORKS = ("stream_residual", "stream_micro", "stream_word")
"""Networks with state: they train on sequences and answer at every step of a stream."""
_TRAINABLE = tuple(name for name, config in PRESETS.items() if not config.normalise)
"""Front ends that training can compute from levels of which loudness was changed."""
NETWORKS = ("residual", "micro", "cnn_reference", *STREAM_NETWORKS)
"""Names of the networks that come with this package."""


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


_NO_PLACES = ("split", "window")
"""Options of the data on which results depend, and that are no paths."""
_QUIET = ("window",)
"""Options that matter for few trainings."""


@dataclass(frozen=True, kw_only=True)
class DataConfig(Section):
    """Folders that examples come from."""

    title: ClassVar[str] = "data"

    clips: Path | None = option(
        Place(), None, positional=True, metavar="DATA", help="folder laid out <word>/<speaker>_nohash_<n>.wav"
    )
    features: Path | None = option(
        Place(),
        None,
        metavar="DIR",
        help="shards that kws-host features made, or precomputed features.npy with manifest.tsv",
    )
    window: int = option(
        whole(1, 100_000_000),
        32_768,
        metavar="N",
        help="clips of shards in memory at a time, 8 kB each, and as many read ahead",
    )
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

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clips is None and self.features is None:
            raise ConfigError("DataConfig: no data to train on: give clips or features")

    @property
    def source(self) -> Path:
        """The folder of clips, or of features where there are no clips, for messages."""
        return self.clips or self.features  # type: ignore[return-value] # one of them is given

    def folders(self) -> dict[str, tuple[Path, ...]]:
        """The folders and files that are given, except the cache, by the name of their field."""
        given = {name: value for name, value in self.values().items() if name not in (*_NO_PLACES, "cache")}
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
    frontend: str = option(Choice(*_TRAINABLE), "logmel40", help="front-end preset")
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
    words_first: float = share(
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
    blend_share: float = share(0.5, "share of --blend")
    log_prior: str = option(
        Text(_numbers_by_label),
        "",
        metavar="LABEL=X[,...]",
        help="add X to the logit of LABEL at the start, as if the label were e^X times likelier",
    )
    teacher: str = option(
        Text(),
        "",
        metavar="RUN[,RUN]",
        help="distil from this run; without state, also from the mean of several runs' posteriors",
    )
    teacher_weight: float = share(0.5, "share of --teacher in the targets")
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
    *("blend", "log_prior"),
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
        places = {name for name in self.data.values() if name not in _NO_PLACES}
        return {name: plain(value) for name, value in self.values().items() if name not in places}

    def summary(self) -> dict[str, Any]:
        """:meth:`settings` of this form of network.

        Defaults are left out of options that no command can change, and of those that seldom matter.
        """
        about = self.options()
        return {
            name: value
            for name, value in self.settings().items()
            if name not in self._absent
            and ((name not in _QUIET and about[name].metadata.get("flag", True)) or value != plain(about[name].default))
        }
