"""What a network is trained and validated on: clips, precomputed features and recordings without keywords."""

from __future__ import annotations

import dataclasses
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np

from host_tools.data.annotations import Word, read_also_said
from host_tools.data.dataset import BACKGROUND_FOLDER, Clip, Voices, count, index_clips
from host_tools.data.features import (
    clip_features,
    levels_to_raw,
    power_to_raw,
    raw_to_levels,
    raw_to_power,
    recording_features,
)
from host_tools.data.label_sets import LABEL_SETS, label_of
from host_tools.data.manifest import manifest
from host_tools.data.origins import SYNTHETIC, origin_of
from host_tools.data.recordings import LeftOut, recordings
from host_tools.data.splits import random_split
from host_tools.data.stored_features import FeatureSet, load_features
from host_tools.errors import DatasetError
from host_tools.sampling.augment import (
    AudioVariation,
    AugmentConfig,
    augment,
    bursts,
    equalisation,
    mix,
    mixup,
    shift_and_stretch,
    silent_raw,
)
from kws_edge.config import FrontendConfig
from kws_edge.features.frontend import resize_frames
from kws_edge.labels import SILENCE, UNKNOWN, is_keyword
from kws_edge.text import printable

__all__ = [
    "Bank",
    "Batches",
    "Examples",
    "Files",
    "Sources",
    "check_sources",
    "load_examples",
    "model_input",
    "one_side",
    "quietest",
    "span_range",
    "windows",
]

_NOISE_SPAN_DB = 40.0
_NOISE_GAIN_DB = 10.0
"""Silence examples reach from this far below the noise's level to this far above it, besides digital silence."""
_UNKNOWN_FOLDER = f"_{UNKNOWN}_"
_MINING_CHUNK, _MINING_CHUNKS = 1000, 10
"""Windows of noise, and as many of speech, that are looked at before an epoch."""
_MINED = 0.1
"""Posterior of a keyword from which on a window without one is hard."""
_BABBLE_SNR_DB = 8.0
_NOISE_STRETCH, _SPEECH_STRETCH, _NOISE_EQUALISATION_DB = 0.4, 0.2, 12.0
"""How far varied noise and speech are from the recordings: relative change of speed and frequency, gain of bands."""


@dataclass(frozen=True)
class Sources:
    """Folders that examples come from; see :func:`load_examples`."""

    clips: Path
    features: Path | None = None
    speech: Path | None = None
    noise: Path | None = None
    synthetic: Path | None = None
    """Folder with ``words``, ``speech`` or both in it, as ``kws-host synthesize`` writes them."""
    more_speech: tuple[Path, ...] = ()
    """Folders of speech without the keywords, all of which trains."""
    more_noise: tuple[Path, ...] = ()
    """Folders of noise, all of which trains."""
    also_said: Path | None = None
    """Keywords that the speakers of `speech` happen to say; see :func:`host_tools.data.annotations.read_also_said`."""
    cache: Path | None = None
    """Where features of clips are kept between runs."""

    def folders(self) -> dict[str, tuple[Path, ...]]:
        """What is given, by the name of its field, but for the cache."""
        given = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "cache"}
        return {
            name: value if isinstance(value, tuple) else (value,)
            for name, value in given.items()
            if value is not None and value != ()
        }

    def fingerprint(self) -> dict[str, list[dict]]:
        """Path, checksum, number of files and bytes of each folder or file, by the name of its field, as JSON has it.

        Raises
        ------
        DatasetError
            If one is missing, or a file in it cannot be read.
        """
        return {
            name: [{"path": os.path.abspath(path), **manifest(path).to_dict()} for path in paths]
            for name, paths in self.folders().items()
        }


@dataclass
class Bank:
    """Recordings without keywords, as raw levels, from which windows of a clip's length are drawn.

    Its groups (recorded and synthetic speech, say) are drawn from evenly, however much each holds.
    """

    frames: int
    silence: float
    """Raw level of digital silence."""
    groups: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    """Of each group, its recordings end to end, and where windows may start."""

    def add(
        self, recordings: Sequence[np.ndarray], without: Sequence[Sequence[tuple[float, float]]] | None = None
    ) -> int:
        """Take a group of recordings; one shorter than a window is heard whole in each of its windows, at any place. A
        longer one has silence before and after it, too, but never in more than three fifths of a window: streams begin
        and speakers pause.

        Of each recording, windows whose middle lies in one of its spans `without` (frames) are left out. Returns the
        frames taken.
        """
        long, starts, end, taken = [], [], 0, 0
        for recording, spans in zip(recordings, without or [()] * len(recordings), strict=True):
            if not len(recording):
                continue
            n = max(3 * self.frames // 5 if len(recording) > self.frames else 0, self.frames - len(recording))
            padded = np.pad(recording, ((n, n), (0, 0)), constant_values=self.silence) if n else recording
            own = np.arange(len(padded) - self.frames + 1)
            middle = np.clip(own - n + self.frames / 2, 0, len(recording))
            for first, last in spans:
                own, middle = (x[(middle < first) | (middle > last)] for x in (own, middle))
            long.append(padded)
            starts.append(end + own)
            end += len(padded)
            taken += len(recording)
        if not sum(map(len, starts)):
            return 0
        self.groups.append((np.concatenate(long), np.concatenate(starts)))
        return taken

    def __bool__(self) -> bool:
        return bool(self.groups)

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """`n` random windows, shape (n, frames, mels), float32."""
        group = rng.integers(len(self.groups), size=n)
        out = np.empty((n, self.frames, self.groups[0][0].shape[1]), np.float32)
        for i, (levels, starts) in enumerate(self.groups):
            own = group == i
            out[own] = levels[rng.choice(starts, int(own.sum()))[:, np.newaxis] + np.arange(self.frames)]
        return out


@dataclass
class Examples:
    """Raw levels of training words by label, banks of negatives, and a fixed validation set."""

    config: FrontendConfig
    labels: tuple[str, ...]
    stores: list[np.ndarray]
    """Arrays (n, frames, mels), numbered through: float16 raw levels, or uint8 output levels"""
    kinds: list[str]
    """Where each store is from: ``recorded``, ``synthetic`` or ``precomputed``"""
    by_word: dict[str, np.ndarray]
    """Numbers of the training examples of each word"""
    noise: Bank
    speech: Bank
    validation: tuple[np.ndarray, np.ndarray]
    """Output levels, float32 (k, frames, mels), and label indices"""
    summary: dict
    """Numbers of examples, for the run's record"""
    problems: list[str]
    """What was left out, and what a user should know of the data: a line each"""

    def rows(self, numbers: np.ndarray) -> np.ndarray:
        """Raw levels of the examples with these numbers, float32."""
        out = np.empty((len(numbers), self.config.n_frames, self.config.n_mels), np.float32)
        first = 0
        for store in self.stores:
            here = (numbers >= first) & (numbers < first + len(store))
            rows = store[numbers[here] - first]
            out[here] = levels_to_raw(rows, self.config) if store.dtype == np.uint8 else rows
            first += len(store)
        return out


def load_examples(
    sources: Sources,
    config: FrontendConfig,
    labels: Sequence[str],
    *,
    split: str = "official",
    audio_copies: int = 0,
    seed: int = 0,
) -> Examples:
    """Index the sources and compute what training needs of them.

    `sources.clips` is a Speech Commands folder, `features` a folder of precomputed features, `speech` and `noise` are
    recordings without keywords, of which only the training half is used, as of the voices of `synthetic`; of
    `more_speech` and `more_noise` everything is. Background noise inside the clips' folder is noise, too. Labels that
    no recording validates are validated by synthetic voices that do not train. What cannot be used (unreadable, cut
    short, empty) is left out and listed in :attr:`Examples.problems`, as are empty folders of words, entries of split
    lists without a clip, and what the validation set does not tell.

    Parameters
    ----------
    sources : Sources
    config : FrontendConfig
    labels : sequence of str
    split : str
        Of clips and precomputed features; see :func:`host_tools.data.dataset.index_clips`.
    audio_copies : int
        Copies of each training clip, varied as audio, to be drawn like the clips themselves.
    seed : int
        Of the random split, the copies and the validation set's silence.

    Raises
    ------
    DatasetError
        If a folder is not what it should be, or a label has no training or no validation example: before anything is
        computed, where the names of files tell.
    """
    files = check_sources(sources, config, labels, split=split, seed=seed)
    left_out, stored = files.left_out, files.stored
    stand_ins = files.stand_ins(labels)

    def features(clips: Sequence[Clip], what: str, **options) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Levels of clips, numbers of those that can be used, and their words."""
        found = clip_features([c.path for c in clips], config, cache=sources.cache, what=what, **options)
        left_out.extend(_unreadable(clips[i].path, why) for i, why in found.skipped.items())
        return found.levels, found.usable, [clips[i].word for i in found.usable]

    training = [c for c in files.recorded if c.split == "training"]
    levels, usable, training_words = features(training, "training clips")
    stores, numbers, words = [levels], [usable], [np.array(training_words, dtype=object)]
    kinds = ["recorded"]
    for copy in range(audio_copies):
        settings = AugmentConfig(reverberation_probability=0.5, noise_probability=0)
        vary = AudioVariation(settings=settings, sample_rate=config.sample_rate, seed=seed, copy=copy)
        paths = [c.path for c in training]
        varied = clip_features(paths, config, cache=sources.cache, vary=vary, what=f"varied copy {copy + 1}")
        numbers.append(usable + sum(map(len, stores)))
        stores.append(varied.levels)
        kinds.append("recorded")
        words.append(words[0])
    if sources.synthetic is not None:
        levels, usable, spoken = features([c for c in files.synthetic if c.split == "training"], "synthetic clips")
        numbers.append(usable + sum(map(len, stores)))
        stores.append(levels)
        kinds.append("synthetic")
        words.append(np.array(spoken, dtype=object))
    held_out = [c for c in files.recorded if c.split == "validation"]
    levels, usable, held_out_words = features([*held_out, *stand_ins], "validation clips")
    validation = (levels[usable].astype(np.float32), held_out_words)
    if sources.features is not None:
        numbers.append(np.flatnonzero(stored.splits == "training") + sum(map(len, stores)))
        words.append(stored.words[stored.splits == "training"].astype(object))
        stores.append(stored.levels)
        kinds.append("precomputed")
    rows = np.flatnonzero(stored.splits == "validation")
    validation_features = (stored.levels[rows], [str(word) for word in stored.words[rows]])

    noise, speech = (Bank(config.n_frames, float(silent_raw(config))) for _ in range(2))
    minutes = dict.fromkeys(("noise", "speech", "synthetic speech"), 0.0)
    for kind, paths in files.banks:
        levels, skipped = recording_features(paths, config, what=kind)
        left_out.extend(_unreadable(path, why) for path, why in skipped.items())
        keywords = [files.said.get(path.stem, ()) for path in paths if path not in skipped]
        frames = [
            [(1000 * w.start_s / config.hop_ms, 1000 * w.end_s / config.hop_ms) for w in each] for each in keywords
        ]
        taken = (noise if kind == "noise" else speech).add(levels, frames)
        minutes[kind] += taken * config.hop_ms / 60000
        if not taken and paths:
            raise DatasetError(f"{paths[0].parent}: no usable recording" + _first(left_out))

    words, numbers = np.concatenate(words), np.concatenate(numbers)
    by_word = {str(w): numbers[words == w] for w in sorted(set(words))}
    heard = {*validation[1], *validation_features[1]}
    _require(sources.clips, labels, by_word, heard, noise=bool(noise), speech=bool(speech), left_out=left_out)

    rng = np.random.default_rng(seed)
    held_out = _validation_set(validation, validation_features, noise, speech, config, labels, rng)
    summary = {
        "split": split,
        "training": count(label_name(labels, w) for w in words),
        "validation": count(labels[i] for i in held_out[1]),
        "noise_minutes": round(minutes["noise"], 1),
        "speech_minutes": round(minutes["speech"], 1),
        "synthetic_minutes": round(minutes["synthetic speech"], 1),
        "left_out": sum(one.files for one in left_out),
        "origins": files.origins,
        "same_voices": Voices.of(files.recorded).words,
    }
    recorded = {*training_words, *files.stored.words[files.stored.splits == "training"]}
    notes = _notes(files, [w for w in labels if is_keyword(w) and w not in recorded], stand_ins)
    problems = [*notes, *files.problems, *map(str, left_out)]
    return Examples(config, tuple(labels), stores, kinds, by_word, noise, speech, held_out, summary, problems)


@dataclass
class Files:
    """What examples can be made of, by the names of files: nothing of it has been read."""

    recorded: list[Clip]
    synthetic: list[Clip]
    stored: FeatureSet
    banks: list[tuple[str, Sequence[Path]]]
    """Recordings without keywords, of a kind: ``noise``, ``speech`` or ``synthetic speech``."""
    said: dict[str, tuple[Word, ...]]
    """Where keywords are said in these all the same, by the recording's name."""
    left_out: list[LeftOut]
    problems: list[str]

    @property
    def every_word(self) -> set[str]:
        return {*(c.word for c in (*self.recorded, *self.synthetic)), *map(str, self.stored.words)}

    def words(self, part: str) -> set[str]:
        """Words of a part of the split that are recorded."""
        stored = self.stored.words[self.stored.splits == part]
        return {*(c.word for c in self.recorded if c.split == part), *map(str, stored)}

    def stand_ins(self, labels: Sequence[str]) -> list[Clip]:
        """Synthetic clips that do not train, of labels that have nothing else to be validated on."""
        heard = {label_name(labels, word) for word in self.words("validation")}
        if any(paths for kind, paths in self.banks if kind != "noise"):
            heard.add(UNKNOWN)
        return [c for c in self.synthetic if c.split == "validation" and label_name(labels, c.word) not in heard]

    @property
    def origins(self) -> list[str]:
        """Whose the words are that train."""
        clips = {origin_of(c.word, c.path.name) for c in self.recorded if c.split == "training"}
        rows = np.flatnonzero(self.stored.splits == "training")
        stored = {origin_of(str(self.stored.words[i]), f"{self.stored.speakers[i]}_nohash_0.wav") for i in rows}
        return sorted(clips | stored) + [SYNTHETIC] * any(c.split == "training" for c in self.synthetic)


def check_sources(
    sources: Sources, config: FrontendConfig, labels: Sequence[str], *, split: str = "official", seed: int = 0
) -> Files:
    """What :func:`load_examples` can make examples of, by the names of files alone.

    Raises
    ------
    DatasetError
        If a folder is not what it should be, or a label has no training or no validation example.
    """
    files = _find(sources, config, split=split, seed=seed)
    unheard = {*labels} - {SILENCE, UNKNOWN} - files.every_word
    if unheard:
        raise DatasetError(
            f"{sources.clips}: no recordings of {', '.join(sorted(unheard))}; --labels takes a label set "
            f"({', '.join(LABEL_SETS)}), or words that have a folder there or in what kws-host synthesize made"
        )
    kinds_heard = {kind for kind, paths in files.banks if paths}
    stand_ins = files.stand_ins(labels)
    _require(
        sources.clips,
        labels,
        files.words("training") | {c.word for c in files.synthetic if c.split == "training"},
        files.words("validation") | {c.word for c in stand_ins},
        noise="noise" in kinds_heard,
        speech=bool(kinds_heard - {"noise"}),
    )
    return files


def _find(sources: Sources, config: FrontendConfig, *, split: str, seed: int) -> Files:
    """List the sources; precomputed features, which are mapped, are opened, too."""
    index = index_clips(sources.clips, split=split, seed=seed)
    files = Files(
        recorded=index.clips,
        synthetic=[],
        stored=FeatureSet(np.empty((0, config.n_frames, config.n_mels), np.uint8), *np.empty((3, 0), str)),
        banks=[("noise", index.background)],
        said=read_also_said(sources.also_said) if sources.also_said else {},
        left_out=[*index.left_out],
        problems=[*index.problems],
    )
    spoken = None
    if sources.synthetic is not None:
        words, spoken = (sources.synthetic / name for name in ("words", "speech"))
        if not words.is_dir() and not spoken.is_dir():
            raise DatasetError(
                f"{sources.synthetic}: holds neither words nor speech, as kws-host synthesize writes them"
            )
        if words.is_dir():
            index = index_clips(words)
            files.synthetic = index.clips
            files.left_out += index.left_out
            files.problems += index.problems
        spoken = spoken if spoken.is_dir() else None
    for kind, folder, half in (
        ("noise", sources.noise, "training"),
        ("speech", sources.speech, "training"),
        ("synthetic speech", spoken, "training"),
        *(("noise", folder, None) for folder in sources.more_noise),
        *(("speech", folder, None) for folder in sources.more_speech),
    ):
        if folder is not None:
            found = recordings(folder, half)
            files.banks.append((kind, found.paths))
            files.left_out += found.left_out
    if sources.features is not None:
        stored = load_features(sources.features, (config.n_frames, config.n_mels))
        if split == "random":
            stored = dataclasses.replace(stored, splits=np.array(random_split(list(stored.words), seed=seed)))
        files.stored = stored
    return files


def _require(
    folder: Path,
    labels: Sequence[str],
    training: Collection[str],
    validation: Collection[str],
    *,
    noise: bool,
    speech: bool,
    left_out: Sequence[LeftOut] = (),
) -> None:
    """Raise an error with the remedy, unless every label has examples to train and to validate it.

    Parameters
    ----------
    folder : path
        Of the clips.
    labels : sequence of str
    training, validation : collection of str
        Words that there are examples of.
    noise, speech : bool
        Whether there are recordings without keywords.
    left_out : sequence of LeftOut
        What could not be read, if that is known.
    """
    more = _first(left_out)
    keywords = [label for label in labels if label not in (SILENCE, UNKNOWN)]
    trained, validated = ({label_name(labels, word) for word in words} for words in (training, validation))
    if missing := [repr(word) for word in keywords if word not in trained]:
        raise DatasetError(
            f"no training example of {', '.join(missing)} in {folder}: add recordings, or take some off its lists{more}"
        )
    if missing := [repr(word) for word in keywords if word not in validated]:
        raise DatasetError(
            f"no validation example of {', '.join(missing)} in {folder}: add recordings, of other speakers where names "
            f"are those of Speech Commands, or give --split random{more}"
        )
    if UNKNOWN in labels and UNKNOWN not in trained and not speech:
        raise DatasetError(
            f"{folder}: no word besides the keywords to make {UNKNOWN!r} of, and no --speech: run kws-host synthesize "
            f"and give --synthetic, or record other words into {folder / _UNKNOWN_FOLDER}{more}"
        )
    if UNKNOWN in labels and UNKNOWN not in validated and not speech:
        raise DatasetError(
            f"no validation example of {UNKNOWN!r} in {folder}: run kws-host synthesize and give --synthetic, or "
            f"record more words that are no keywords into {folder / _UNKNOWN_FOLDER}{more}"
        )
    if SILENCE in labels and not noise:
        raise DatasetError(
            f"{folder}: no recordings in {BACKGROUND_FOLDER} to make {SILENCE!r} of: record a minute of the room into "
            f"it, or give --noise{more}"
        )


def _notes(files: Files, unrecorded: Sequence[str], stand_ins: Sequence[Clip]) -> list[str]:
    """What accuracy on the validation set does not tell: a line each."""
    lines = []
    if unrecorded:
        lines.append(f"no recorded training clip of {', '.join(unrecorded)}: only synthetic speech trains it")
    if stand_ins:
        words = sorted({c.word for c in stand_ins})
        lines.append(f"no recorded validation clip of {', '.join(words)}: synthetic voices that do not train stand in")
    if voices := str(Voices.of(files.recorded)):
        lines.append(voices)
    return [printable(line) for line in lines]


def _unreadable(path: Path, why: str) -> LeftOut:
    return LeftOut(path, why.removeprefix(printable(f"{path}: ")))


def _first(left_out: list[LeftOut]) -> str:
    return f" ({sum(one.files for one in left_out)} files left out, the first: {left_out[0]})" if left_out else ""


def label_name(labels: Sequence[str], word: str) -> str:
    """Label that `word` is trained as."""
    return labels[label_of(word, labels)]


def _validation_set(clips, features, noise, speech, config, labels, rng):
    """With an unknown class as the official test set is made: as many of unknown and of silence as of a keyword.

    There clips come first, and precomputed features fill up labels with few of them. Without an unknown class it is
    everything that there is, and silence.
    """
    candidates: dict[int, list[np.ndarray]] = {i: [] for i in range(len(labels))}
    for raw, word in zip(*clips, strict=True):
        candidates[label_of(word, labels)].append(raw_to_levels(raw.astype(np.float32), config))
    keyword = [len(candidates[i]) for i, name in enumerate(labels) if name not in (SILENCE, UNKNOWN)]
    target = max(50, int(np.median(keyword)))
    extra: dict[int, list[np.ndarray]] = {i: [] for i in range(len(labels))}
    for row, word in zip(*features, strict=True):
        extra[label_of(word, labels)].append(row.astype(np.float32))
    levels, truth = [], []
    for i, name in enumerate(labels):
        if name == SILENCE:
            quiet = windows(noise, target, rng, config)
            rows = list(raw_to_levels(quiet, config))
        elif name == UNKNOWN and not candidates[i] and not extra[i]:
            rows = list(raw_to_levels(speech.draw(target, rng), config))
        else:
            rng.shuffle(candidates[i])
            rng.shuffle(extra[i])
            rows = candidates[i] + extra[i]
            if UNKNOWN in labels:
                rows = rows[: target if name == UNKNOWN else max(target, len(candidates[i]))]
        levels.extend(rows)
        truth.extend([i] * len(rows))
    return np.stack(levels), np.array(truth)


def windows(
    noise: Bank, n: int, rng: np.random.Generator, config: FrontendConfig, *, variety: float = 0.0
) -> np.ndarray:
    """Silence as the official test set makes it: noise times a volume from U(0, 1); and the quieter rest of the range,
    and louder than recorded. The share `variety` of it is other noise than recorded: of another speed and pitch, with
    other bands, in bursts half of the time, over another noise half of the time.

    Returns
    -------
    numpy.ndarray, shape (n, frames, mels), float32
        Raw levels.
    """
    raw = noise.draw(n, rng)
    varied = np.flatnonzero(rng.random(n) < variety) if variety else np.empty(0, np.intp)
    if len(varied):
        raw[varied] = _stretched(raw[varied], _NOISE_STRETCH, rng, config)
    power = raw_to_power(raw, config)
    if len(varied):
        power[varied] *= equalisation(len(varied), config.n_mels, _NOISE_EQUALISATION_DB, rng)
        some = varied[rng.random(len(varied)) < 0.5]
        power[some] *= bursts(len(some), config.n_frames, config.hop_ms, rng)
        some = varied[rng.random(len(varied)) < 0.5]
        power[some] = mix(
            power[some], raw_to_power(noise.draw(len(some), rng), config), rng.uniform(-10, 20, len(some))
        )
    volume = np.where(rng.random(n) < 0.6, rng.random(n), 10 ** (rng.uniform(-_NOISE_SPAN_DB, _NOISE_GAIN_DB, n) / 20))
    power *= (volume**2).astype(np.float32)[:, np.newaxis, np.newaxis]
    raw = power_to_raw(power, config)
    raw[rng.random(n) < 0.05] = silent_raw(config)
    return raw


def quietest(raw: np.ndarray, config: FrontendConfig) -> np.ndarray:
    """The quietest three tenths of a second of each example, to and fro for as long as it is: what its microphone picks
    up where nobody speaks.

    Parameters
    ----------
    raw : numpy.ndarray, shape (n, frames, mels), float32
        Raw levels.

    Returns
    -------
    numpy.ndarray, shape (n, frames, mels), float32
    """
    n, frames, _ = raw.shape
    span = min(frames, round(300 / config.hop_ms))
    summed = np.cumsum(np.pad(raw.mean(axis=2), ((0, 0), (1, 0))), axis=1)
    start = (summed[:, span:] - summed[:, :-span]).argmin(axis=1)
    at = np.arange(frames) % (2 * span)
    at = np.where(at < span, at, 2 * span - 1 - at)
    return raw[np.arange(n)[:, np.newaxis], start[:, np.newaxis] + at]


def one_side(raw: np.ndarray, numbers: np.ndarray, rng: np.random.Generator, config: FrontendConfig) -> None:
    """Digital silence up to, or from, a random time in these examples, in place: as recordings begin and end in
    streams, and noise gates open and close on noise."""
    time, at = np.arange(raw.shape[1]), rng.integers(raw.shape[1], size=(len(numbers), 1))
    silent = np.where(rng.random((len(numbers), 1)) < 0.5, time < at, time > at)
    raw[numbers] = np.where(silent[:, :, np.newaxis], silent_raw(config), raw[numbers])


def _stretched(raw: np.ndarray, most: float, rng: np.random.Generator, config: FrontendConfig) -> np.ndarray:
    """Faster or slower, higher or lower by a relative change up to `most` each."""
    speed, pitch = 1 + rng.uniform(-most, most, (2, len(raw)))
    return shift_and_stretch(raw, np.zeros(len(raw)), speed, pitch, config)


def model_input(levels: np.ndarray, config: FrontendConfig) -> np.ndarray:
    """Levels of clips as the network takes them, resized if the front end says so.

    Returns
    -------
    numpy.ndarray, shape (n, *config.feature_shape, 1), float32
    """
    if config.resize_frames is not None:
        levels = np.stack([resize_frames(row, config.resize_frames) for row in levels])
    return levels[..., np.newaxis]


def span_range(inputs: np.ndarray, config: FrontendConfig) -> np.ndarray:
    """Set two values of the first example to the ends of the levels' range, where they are clipped, with the zero that
    TFLite's ranges hold: so the scale and zero point of a quantised input follow from the front end, not from clips.

    Parameters
    ----------
    inputs : numpy.ndarray, shape (n, ...), float32
        Is changed, and returned.
    config : FrontendConfig
    """
    for edge, position, widest in ((config.level_min, 0, min), (config.level_max, -1, max)):
        if edge is not None:
            inputs[0].flat[position] = widest(0.0, edge)
    return inputs


def _step_back() -> None:
    """This thread lets others have the processor: those that train wait for each other, and seldom for batches."""
    if sys.platform == "linux":  # where threads have priorities of their own
        me = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, me, os.getpriority(os.PRIO_PROCESS, me) + 10)


class Batches:
    """Augmented training batches; the same seed, epoch and index give the same batch.

    Parameters
    ----------
    examples : Examples
    batch_size : int
    augment_config : AugmentConfig
    seed : int
    smoothing : float
        Label smoothing.
    silence_share, unknown_share : float
        Shares of a batch; the keywords share the rest by the square root of the number of their examples. Without a
        label for unknown words, speech without the keywords is silence, as anything is that should not be heard.
    speech_share : float
        Share of the unknown examples that are windows of continuous speech.
    hard_negatives : float
        Share of the unknown examples that are two words, parts of which the window holds, or a keyword of which it
        holds about half.
    mined : float
        Share of the noise and of the continuous speech that is drawn from what :meth:`mine` found.
    variety : float
        Share of the noise and of the continuous speech that is made unlike the recordings; see :func:`windows`.
    hiss : float
        Share of the noise that is what words' recordings hold besides the word; see :func:`quietest`.
    babble : float
        Share of the noise behind examples that is speech, at 8 dB signal-to-noise ratio or more.
    """

    def __init__(
        self,
        examples: Examples,
        *,
        batch_size: int,
        augment_config: AugmentConfig,
        seed: int,
        smoothing: float = 0.1,
        silence_share: float = 0.08,
        unknown_share: float = 0.25,
        speech_share: float = 0.3,
        hard_negatives: float = 0.0,
        mined: float = 0.0,
        variety: float = 0.0,
        hiss: float = 0.0,
        babble: float = 0.0,
    ) -> None:
        self.examples, self.batch_size = examples, batch_size
        self.mined, self.variety, self.hiss = mined, variety, hiss
        self._found: dict[str, np.ndarray] = {}
        self.augment_config, self.seed, self.smoothing = augment_config, seed, smoothing
        self.speech_share = speech_share if examples.speech else 0.0
        self.babble = babble if examples.speech else 0.0
        self.hard_negatives = hard_negatives
        labels = examples.labels
        keywords = [w for w in labels if w not in (SILENCE, UNKNOWN)]
        shares = {SILENCE: silence_share, UNKNOWN: unknown_share}
        # The part of silence that is speech.
        self._speech_part = 0.0
        if UNKNOWN not in labels and SILENCE in labels and examples.speech:
            shares[SILENCE] = silence_share + unknown_share
            self._speech_part = unknown_share / shares[SILENCE]
        rest = 1 - sum(shares[w] for w in labels if w in shares)
        weights = {w: len(examples.by_word[w]) ** 0.5 for w in keywords}
        self._shares = np.array([shares.get(w) or rest * weights[w] / sum(weights.values()) for w in labels])
        self._keywords = keywords
        self._unknown_words = [word for word in examples.by_word if word not in labels]
        self._kinds = {word: self._by_kind(numbers) for word, numbers in examples.by_word.items()}
        if not self._unknown_words:
            self.speech_share, self.hard_negatives = 1.0, 0.0

    def epoch(self, epoch: int, steps: int, *, ahead: int = 4) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The batches of an epoch, made in a thread of their own while the caller trains."""
        with ThreadPoolExecutor(1, initializer=_step_back) as pool:
            pending = deque(pool.submit(self.batch, epoch, i) for i in range(min(ahead, steps)))
            for i in range(ahead, steps + ahead):
                ready = pending.popleft().result()
                if i < steps:
                    pending.append(pool.submit(self.batch, epoch, i))
                yield ready

    def batch(self, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """One batch.

        Returns
        -------
        inputs : numpy.ndarray, shape (batch_size, *config.feature_shape, 1), float32
        targets : numpy.ndarray, shape (batch_size, n_labels), float32
        """
        rng = np.random.default_rng((self.seed, epoch, index))
        config, n_labels = self.examples.config, len(self.examples.labels)
        raw, truth, silent = self.draw(self.batch_size, rng)
        noise = self.examples.noise
        added = noise.draw(len(raw), rng) if noise else np.full_like(raw, silent_raw(config))
        least = np.full(len(raw), -np.inf)
        if self.babble:
            behind = np.flatnonzero(rng.random(len(raw)) < self.babble)
            added[behind] = self.examples.speech.draw(len(behind), rng)
            least[behind] = _BABBLE_SNR_DB
        levels = augment(raw, added, rng, config, self.augment_config, gain_only=silent, least_snr_db=least)
        targets = np.full((len(raw), n_labels), self.smoothing / n_labels, np.float32)
        targets[np.arange(len(raw)), truth] += 1 - self.smoothing
        if self.augment_config.mixup:
            levels, targets = mixup(levels, targets, rng, self.augment_config.mixup)
        return model_input(levels, config), targets

    def mine(self, posteriors: Callable[[np.ndarray], np.ndarray], epoch: int) -> dict[str, int]:
        """Look for noise and speech in which a network hears keywords, for the batches of an epoch.

        Parameters
        ----------
        posteriors : callable
            Inputs, shape (n, *config.feature_shape, 1), to posteriors, shape (n, n_labels).
        epoch : int

        Returns
        -------
        dict
            How many windows were found, of ``silence`` and of ``unknown``: those with a keyword's posterior of
            a tenth or more, but at least two in a hundred of those looked at.
        """
        rng = np.random.default_rng((self.seed, epoch))
        config, keywords = self.examples.config, [is_keyword(label) for label in self.examples.labels]
        self._found = {}
        for name, bank in ((SILENCE, self.examples.noise), (UNKNOWN, self.examples.speech)):
            kept = []
            for _ in range(_MINING_CHUNKS if bank else 0):
                raw = self._draw_negatives(name, _MINING_CHUNK, rng)
                score = posteriors(model_input(raw_to_levels(raw, config), config))[:, keywords].max(axis=1)
                hardest = np.argsort(-score)[: max(_MINING_CHUNK // 50, int((score >= _MINED).sum()))]
                kept.append(raw[hardest])
            if kept:
                self._found[name] = np.concatenate(kept)
        return {name: len(raw) for name, raw in self._found.items()}

    def _draw_negatives(self, name: str, n: int, rng: np.random.Generator) -> np.ndarray:
        """Noise for ``silence``, speech for ``unknown``: some of it what :meth:`mine` found."""
        e = self.examples
        if name == SILENCE:
            raw = windows(e.noise, n, rng, e.config, variety=self.variety)
            if self.hiss:
                hiss = np.flatnonzero(rng.random(n) < self.hiss)
                words = rng.choice(list(e.by_word), len(hiss))
                raw[hiss] = quietest(self._draw_words(words, rng), e.config)
                one_side(raw, hiss[rng.random(len(hiss)) < 0.5], rng, e.config)
        else:
            raw = e.speech.draw(n, rng)
            if self.variety:
                varied = rng.random(n) < self.variety
                raw[varied] = _stretched(raw[varied], _SPEECH_STRETCH, rng, e.config)
        if name in self._found:
            mined = rng.random(n) < self.mined
            raw[mined] = self._found[name][rng.integers(len(self._found[name]), size=int(mined.sum()))]
        return raw

    def draw(
        self, n: int, rng: np.random.Generator, *, even: bool = False
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Training examples before augmentation.

        Parameters
        ----------
        n : int
        rng : numpy.random.Generator
        even : bool
            Draw labels evenly instead of by their shares.

        Returns
        -------
        raw : numpy.ndarray, shape (n, frames, mels), float32
            Raw levels.
        truth : numpy.ndarray, shape (n,), int
            Label indices.
        silent : numpy.ndarray, shape (n,), bool
            Those that are noise.
        """
        e, config = self.examples, self.examples.config
        truth = np.arange(n) % len(e.labels) if even else rng.choice(len(e.labels), n, p=self._shares)
        names = np.array(e.labels, dtype=object)[truth]
        if self._speech_part:
            names[(names == SILENCE) & (rng.random(n) < self._speech_part)] = UNKNOWN
        silent = names == SILENCE
        kind = np.where(names == UNKNOWN, rng.random(n), np.inf)
        speech = kind < self.speech_share
        hard = ~speech & (kind < self.speech_share + self.hard_negatives)
        words = ~silent & ~speech & ~hard
        raw = np.empty((n, config.n_frames, config.n_mels), np.float32)
        for name, chosen in ((SILENCE, silent), (UNKNOWN, speech)):
            if chosen.any():
                raw[chosen] = self._draw_negatives(name, int(chosen.sum()), rng)
        if hard.any():
            raw[hard] = self._draw_hard(int(hard.sum()), rng)
        raw[words] = self._draw_words(names[words], rng)
        return raw, truth, silent

    def _draw_words(self, names: Sequence[str], rng: np.random.Generator) -> np.ndarray:
        """Raw levels of an example of each name; unknown words are drawn evenly, so that rare ones are heard as often
        as common ones."""
        numbers = []
        for name in names:
            word = self._unknown_words[rng.integers(len(self._unknown_words))] if name == UNKNOWN else name
            groups, bounds = self._kinds[word]
            group = groups[min(int(np.searchsorted(bounds, rng.random())), len(groups) - 1)]
            numbers.append(group[rng.integers(len(group))])
        return self.examples.rows(np.array(numbers, np.intp))

    def _draw_hard(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Windows that streams are full of and clips are not: the end of a word and the beginning of another, and about
        half of a keyword."""
        config = self.examples.config
        second = 1000 / config.hop_ms  # frames

        def moved(raw: np.ndarray, low: float, high: float) -> np.ndarray:
            one = np.ones(len(raw))
            return shift_and_stretch(raw, rng.uniform(low, high, len(raw)) * second, one, one, config)

        pairs = n // 2
        ends = moved(self._draw_words([UNKNOWN] * pairs, rng), -0.5, -0.2)
        starts = moved(self._draw_words([UNKNOWN] * pairs, rng), 0.2, 0.5)
        joined = power_to_raw(raw_to_power(ends, config) + raw_to_power(starts, config), config)
        keywords = self._draw_words([self._keywords[i] for i in rng.integers(len(self._keywords), size=n - pairs)], rng)
        cut = moved(keywords, 0.45, 0.7)
        early = rng.random(len(cut)) < 0.5
        cut[early] = moved(keywords[early], -0.7, -0.45)
        return np.concatenate([joined, cut])

    def _by_kind(self, numbers: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """Examples that are recorded, synthetic and precomputed, and the bounds of their shares: as the square roots of
        their numbers, so that a word with few recordings is not told by the traces that storing features leaves."""
        ends = np.cumsum([len(store) for store in self.examples.stores])
        kind = np.array(self.examples.kinds)[np.searchsorted(ends, numbers, side="right")]
        groups = [numbers[kind == name] for name in dict.fromkeys(self.examples.kinds)]
        groups = [group for group in groups if len(group)]
        shares = np.array([len(group) ** 0.5 for group in groups])
        return groups, np.cumsum(shares / shares.sum())
