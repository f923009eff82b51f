"""Folders of recordings laid out like Speech Commands: ``<word>/<speaker>_nohash_<n>.wav``, of any format of audio.

What such a folder holds is used, or listed as left out with the reason. The official split is that of Speech Commands:
by the lists in the folder, or by a hash of the speaker's id. Other words go by the same hash of their speakers, or of
their recordings where few speak. The random split keeps nobody apart. :class:`Voices` says who is heard in two parts.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import tokenize
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from host_tools.errors import DatasetError
from kws_edge.audio.formats import is_audio, recognise
from kws_edge.labels import SILENCE, UNKNOWN, is_keyword
from kws_edge.text import printable

__all__ = [
    "BACKGROUND_FOLDER",
    "LABEL_SETS",
    "NPY_DAMAGE",
    "PRIVATE",
    "SPEECH_COMMANDS",
    "SPLITS",
    "SYNTHETIC",
    "Clip",
    "FeatureSet",
    "Found",
    "Index",
    "LeftOut",
    "Voices",
    "find_audio",
    "index_clips",
    "index_labelled",
    "is_official",
    "label_of",
    "label_set",
    "load_features",
    "official_split",
    "origin_of",
    "origins_of",
    "random_split",
    "recordings",
    "spelt",
]

BACKGROUND_FOLDER = "_background_noise_"
_MAX_CLIPS_PER_CLASS = 2**27 - 1  # constant of the dataset's split function
_NOHASH = "_nohash_"
_OFFICIAL = re.compile(rf"[0-9a-f]{{8}}{_NOHASH}.+", re.DOTALL)
SPEECH_COMMANDS = "Speech Commands by Pete Warden (CC BY 4.0)"
PRIVATE, SYNTHETIC = "private recordings", "synthetic speech"
_LARGEST_VOICE = 0.25
"""A word of one's own is split by speaker where nobody has more than this share of its recordings."""

_COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
_OTHER_WORDS = (
    "backward", "bed", "bird", "cat", "dog", "eight", "five", "follow", "forward", "four", "happy", "house", "learn",
    "marvin", "nine", "one", "seven", "sheila", "six", "three", "tree", "two", "visual", "wow", "zero",
)  # fmt: skip

LABEL_SETS: dict[str, tuple[str, ...]] = {
    "commands12": (SILENCE, UNKNOWN, *_COMMANDS),
    "words36": (SILENCE, *sorted(_COMMANDS + _OTHER_WORDS)),
}
"""Labels by name, in the order of the model's outputs."""

SPLITS = ("official", "random")
_LISTS = {"validation": "validation_list.txt", "testing": "testing_list.txt"}
_SPOKEN_AS_UNKNOWN = f"_{UNKNOWN}_"
"""Word of the clips in a folder of unknown words: no label, so that they train as the words that are none."""
_ENDINGS = (
    ".3gp", ".aac", ".aif", ".aifc", ".aiff", ".amr", ".au", ".caf", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus",
    ".rf64", ".snd", ".w64", ".wav", ".wave", ".webm", ".wma",
)  # fmt: skip
"""What names of audio end in; of others, the first bytes tell."""
_TEXTS = (".csv", ".json", ".lab", ".md", ".tsv", ".txt")
_FIRST_BYTES = 1 << 14
_SYSTEM_FILES = ("$recycle.bin", "@eadir", "__macosx", "desktop.ini", "icon\r", "thumbs.db")
_PARTS = ("training", "validation", "testing")
NPY_DAMAGE = (  # what NumPy raises for a file whose header is wrong
    ValueError,
    EOFError,
    OverflowError,
    MemoryError,
    RecursionError,
    TypeError,
    SyntaxError,
    tokenize.TokenError,
)
_RANDOM_SHARES = {"training": 0.70, "validation": 0.15, "testing": 0.15}


@dataclass(frozen=True)
class Clip:
    """A recorded word."""

    path: Path
    word: str
    speaker: str
    """Empty where nothing tells."""
    split: str


@dataclass(frozen=True)
class LeftOut:
    """Files that are not used, of one folder and for one reason."""

    path: Path
    """The first of them, or the folder."""
    why: str
    files: int = 1

    def __str__(self) -> str:
        return printable(f"{self.path}: {self.why}" + (f" ({self.files} files)" if self.files > 1 else ""))


class _Entry(NamedTuple):
    """A recording of a word."""

    path: Path
    word: str
    names: tuple[str, ...]
    """Of the word's folder, of the folders within it, and of the file; each as :func:`spelt` has it."""

    @property
    def speaker(self) -> str:
        """What stands before ``_nohash_`` in the file's name, or else the folder within the word's; empty without."""
        before, marked, _ = self.names[-1].partition(_NOHASH)
        return before if marked else self.names[1] if len(self.names) > 2 else ""


class Found(NamedTuple):
    """What there is to hear in a folder."""

    paths: list[Path]
    left_out: list[LeftOut]


@dataclass(frozen=True)
class Index:
    """What a Speech Commands folder holds."""

    clips: list[Clip]
    """Sorted by word and name."""
    background: list[Path]
    """Recordings without speech, sorted."""
    left_out: list[LeftOut]
    problems: list[str]
    """What else a user should know of the folder: a line each."""


@dataclass(frozen=True)
class FeatureSet:
    """Precomputed uint8 features with their words, speakers and splits, in row order."""

    levels: np.ndarray
    words: np.ndarray
    speakers: np.ndarray
    splits: np.ndarray


def official_split(name: str) -> str:
    """Part of the official Speech Commands split that a recording belongs to, by its file's name or the speaker's.

    Source: ``which_set`` in the dataset's own README.

    Returns
    -------
    str
        ``training``, ``validation`` or ``testing``.
    """
    return _part(_percent(name.partition(_NOHASH)[0]))


def _percent(group: str) -> float:
    """Where the hash of a name puts what must stay together, from 0 to 100."""
    digest = int(hashlib.sha1(os.fsencode(group)).hexdigest(), 16)
    return (digest % (_MAX_CLIPS_PER_CLASS + 1)) * (100.0 / _MAX_CLIPS_PER_CLASS)


def _part(percent: float) -> str:
    return "validation" if percent < 10 else "testing" if percent < 20 else "training"


def is_official(word: str, name: str) -> bool:
    """Whether a recording's word and its file's name are those of Speech Commands."""
    return word in (*_COMMANDS, *_OTHER_WORDS, _SPOKEN_AS_UNKNOWN) and _OFFICIAL.fullmatch(name) is not None


def origin_of(word: str, name: str) -> str:
    """Whose a recording is, by its word and its file's name: :data:`SPEECH_COMMANDS`, or else :data:`PRIVATE`."""
    return SPEECH_COMMANDS if is_official(word, name) else PRIVATE


def origins_of(data: Mapping[str, Any], labels: Iterable[str]) -> list[str]:
    """Whose the words are that a model was trained on, by what its run's record has of the data; of a run that was made
    before this was kept, its labels tell. Nothing is known without a record."""
    if not data or "origins" in data:
        return data.get("origins", [])
    return [SPEECH_COMMANDS if set(filter(is_keyword, labels)) <= {*_COMMANDS, *_OTHER_WORDS} else PRIVATE]


def _own_split(entries: Sequence[_Entry], others: Iterable[str]) -> list[str]:
    """Part of the split of each recording of a word that is not of Speech Commands.

    It goes by the hash of the speaker, or of the recording's name where nobody is named or somebody has more than
    :data:`_LARGEST_VOICE` of them. So a recording stays in its part when others are added, but for two cases: the first
    by that order is for validation, and the last for training, where nothing else is.

    Parameters
    ----------
    entries : sequence of _Entry
    others : iterable of str
        Parts of the word's recordings that are of Speech Commands.
    """
    groups = names = ["/".join(entry.names[1:]) for entry in entries]
    voices = count(entry.speaker for entry in entries if entry.speaker)
    if max(voices.values(), default=0) <= _LARGEST_VOICE * len(entries):
        groups = [entry.speaker or name for entry, name in zip(entries, names, strict=True)]
    percent = {group: _percent(group) for group in groups}
    parts = {group: _part(value) for group, value in percent.items()}
    for part, choose in (("validation", min), ("training", max)):
        if part not in {*parts.values(), *others}:
            parts[choose(percent, key=percent.__getitem__)] = part
    return [parts[group] for group in groups]


def random_split(groups: Sequence[str], *, seed: int) -> list[str]:
    """Part of a random split, 70 % training, 15 % validation, 15 % testing, of each clip, whoever speaks.

    Parameters
    ----------
    groups : sequence of str
        The word of each clip: every word is split by itself, in these shares.
    seed : int
        The same seed and the same words give the same split.
    """
    names, bounds = list(_RANDOM_SHARES), np.cumsum(list(_RANDOM_SHARES.values()))
    words, parts = np.array(groups), np.empty(len(groups), object)
    for i, word in enumerate(np.unique(words)):
        members = np.flatnonzero(words == word)
        place = (np.random.default_rng((seed, i)).permutation(len(members)) + 0.5) / len(members)
        parts[members] = [names[k] for k in np.searchsorted(bounds, place)]
    return list(parts)


class Voices(NamedTuple):
    """Who is heard outside training, and whether in training, too."""

    others: int
    """Speakers outside training."""
    shared: int
    """Of them, those who speak in training, too."""
    unnamed: int
    """Clips outside training of which nothing tells who speaks."""
    words: tuple[str, ...]
    """The words of such clips, and of such speakers."""

    @classmethod
    def of(cls, clips: Sequence[Clip]) -> Voices:
        """The voices of a split."""
        training = {c.speaker for c in clips if c.split == "training"}
        others = [c for c in clips if c.split != "training"]
        known = {c.speaker for c in others if c.speaker}
        same = [c for c in others if not c.speaker or c.speaker in training]
        unnamed = sum(not c.speaker for c in same)
        return cls(len(known), len(known & training), unnamed, tuple(sorted({c.word for c in same})))

    def __str__(self) -> str:
        """A line for people, empty where all outside training are strangers."""
        facts = []
        if self.shared:
            facts.append(f"{self.shared} of the {self.others} speakers outside training speak in training, too")
        if self.unnamed:
            facts.append(
                f"{self.unnamed} clips outside training name no speaker (as hello/anna/1.wav does), so that their"
                " voices may train, too"
            )
        more = f" and {len(self.words) - 5} other words" if len(self.words) > 5 else ""
        words = ", ".join(self.words[:5]) + more
        return printable(f"{'; '.join(facts)}: expect worse for strangers than measured on {words}") if facts else ""


def label_set(spec: str) -> tuple[str, ...]:
    """Labels by the name of a set, or ``silence``, ``unknown`` and the words of a list such as ``hello,lamp``.

    A word by itself is a list, too, but for one that looks like the name of a set with a slip in it: a comma after it
    tells.

    Raises
    ------
    DatasetError
        If it is neither.
    """
    if spec in LABEL_SETS:
        return LABEL_SETS[spec]
    words = [spelt(word.strip()) for word in spec.split(",") if word.strip()]
    if not words or ("," not in spec and get_close_matches(spec, LABEL_SETS, cutoff=0.75)):
        example = f"{words[0]}," if words else "hello,lamp"
        raise DatasetError(
            f"unknown label set {spec!r}; known are {', '.join(LABEL_SETS)}, or a list of words such as {example!r}"
        )
    twice = [word for word, n in count(words).items() if n > 1]
    if twice or {SILENCE, UNKNOWN} & set(words):
        raise DatasetError(f"labels {spec!r}: list each word once, without {SILENCE} and {UNKNOWN}, which are implied")
    return (SILENCE, UNKNOWN, *words)


def _folder(path: str | Path) -> Path:
    folder = Path(path)
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder")
    return folder


def spelt(name: str) -> str:
    """A name in one of Unicode's forms: macOS has another one for letters with accents than keyboards have."""
    return unicodedata.normalize("NFC", name)


def find_audio(folder: str | Path) -> Found:
    """Recordings in a folder, at any depth, sorted, and what else lies there but texts and what systems leave behind.

    A file whose name does not end as audio does is a recording if its first bytes are those of one.

    Raises
    ------
    DatasetError
        If the folder does not exist or cannot be read.
    """
    paths: list[Path] = []
    unused: dict[tuple[Path, str], list[Path]] = {}
    folders = [_folder(folder)]
    while folders:
        here = folders.pop()
        for path in _entries(here):
            if not path.is_dir():
                why = _why_not(path)
            elif path.is_symlink():
                why = "a link to a folder, which is not followed"
            else:
                why = ""
                folders.append(path)
            if why is None:
                paths.append(path)
            elif why:
                unused.setdefault((here, why), []).append(path)
    left_out = [LeftOut(which[0], why, len(which)) for (_, why), which in unused.items()]
    return Found(sorted(paths), sorted(left_out, key=lambda one: one.path))


def _unused(folder: Path, why: str) -> list[LeftOut]:
    """That the recordings in a folder are left out, if there are any."""
    n = len(find_audio(folder).paths)
    return [LeftOut(folder, why, n)] if n else []


def _entries(folder: Path) -> Iterator[Path]:
    """What a folder holds, sorted, but for what is hidden or of the system."""
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be read ({error.strerror})") from None
    return (p for p in paths if not p.name.startswith(".") and p.name.lower() not in _SYSTEM_FILES)


def _why_not(path: Path) -> str | None:
    """Why a file is no recording; None if it is one, nothing if that needs no word."""
    if not path.is_file():
        return "a broken link" if path.is_symlink() and not path.exists() else "no regular file"
    ending = path.suffix.lower()
    if ending in _ENDINGS or ending in _TEXTS:
        return None if ending in _ENDINGS else ""
    try:
        with open(path, "rb", buffering=0) as file:
            begin = file.read(_FIRST_BYTES)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    kind = recognise(lambda at, n: begin[at : at + n])
    if is_audio(kind):
        return None
    return "" if kind == "a text" or not begin else f"{kind or 'of no format'}, not audio"


def index_clips(folder: str | Path, *, split: str = "official", seed: int = 0) -> Index:
    """Every clip of a Speech Commands folder, with its part of the split, and what else the folder holds.

    A folder's name is the word, and that of a folder within it a speaker. ``_background_noise_``, ``_silence_`` and
    names like these hold noise; ``_unknown_`` holds words that are no keywords.

    Parameters
    ----------
    folder : path
    split : str
        ``official``: by ``validation_list.txt`` and ``testing_list.txt`` for words that these name; other recordings of
        Speech Commands by :func:`official_split`; of every other word some validate, and some train.
        ``random``: by :func:`random_split`, as the reference system has it.
    seed : int
        Of the random split.

    Raises
    ------
    DatasetError
        If the folder does not exist or holds no ``<word>/*.wav``, a list cannot be read, or there is no such split.
    """
    folder = _folder(folder)
    if split not in SPLITS:
        raise DatasetError(f"unknown split {split!r}; known are {', '.join(SPLITS)}")
    clips: list[_Entry] = []
    background: list[Path] = []
    left_out: list[LeftOut] = []
    problems: list[str] = []
    entries = list(_entries(folder))
    for sub in filter(Path.is_dir, entries):
        word = spelt(sub.name)
        unknown = word.strip("_").lower() == UNKNOWN
        if not unknown and not is_keyword(word):
            found = find_audio(sub)
            background += found.paths
        elif not unknown and word.startswith("_"):
            left_out += _unused(sub, "recordings in a folder that is no word: its name begins with _")
            continue
        else:
            found = find_audio(sub)
            depth = len(sub.parts) - 1
            for path in found.paths:
                names = tuple(map(spelt, path.parts[depth:]))
                clips.append(_Entry(path, _SPOKEN_AS_UNKNOWN if unknown else word, names))
            if not found.paths:
                problems.append(f"{sub}: no recording in this folder")
        left_out += found.left_out
    left_out += _loose(entries)
    problems += _look_alikes(clips)
    if not clips:
        raise DatasetError(f"{folder}: no clips of the form <word>/<speaker>_nohash_<n>.wav in it")
    if split == "random":
        parts = random_split([entry.word for entry in clips], seed=seed)
    else:
        parts, said = _official_parts(folder, clips)
        problems += said
    named = [Clip(one.path, one.word, one.speaker, part) for one, part in zip(clips, parts, strict=True)]
    return Index(named, background, left_out, [printable(line) for line in problems])


def _official_parts(folder: Path, clips: Sequence[_Entry]) -> tuple[list[str], list[str]]:
    """Part of the official split of each recording, and what of the folder's lists does not fit."""
    listed, problems = _listed(folder, clips)
    parts: dict[int, str] = {}
    own: dict[str, list[int]] = {}
    others: dict[str, set[str]] = {}
    for number, entry in enumerate(clips):
        if entry.word in listed:
            parts[number] = listed[entry.word].get(number, "training")
        elif is_official(entry.word, entry.path.name):
            parts[number] = official_split(entry.path.name)
            others.setdefault(entry.word, set()).add(parts[number])
        else:
            own.setdefault(entry.word, []).append(number)
    for word, numbers in own.items():
        split = _own_split([clips[number] for number in numbers], others.get(word, ()))
        parts |= zip(numbers, split, strict=True)
    return [parts[number] for number in range(len(clips))], problems


def _loose(entries: Iterable[Path]) -> list[LeftOut]:
    """That recordings beside the folders are left out, if there are any."""
    loose = [path for path in entries if not path.is_dir() and _why_not(path) is None]
    return [LeftOut(loose[0], "a recording in no word's folder", len(loose))] if loose else []


def _look_alikes(clips: Iterable[_Entry]) -> list[str]:
    """Which words differ by capitals alone, and which recordings are there twice: a line for each kind."""
    spellings: dict[str, set[str]] = {}
    formats: dict[Path, list[Path]] = {}
    for path, word, _ in clips:
        spellings.setdefault(word.casefold(), set()).add(word)
        formats.setdefault(path.with_suffix(""), []).append(path)
    lines = [
        f"the words {', '.join(sorted(same))} differ by capitals alone" for same in spellings.values() if len(same) > 1
    ]
    if twice := [paths for paths in formats.values() if len(paths) > 1]:
        lines.append(
            f"{len(twice)} recordings are there in more than one format, and each counts, the first: {twice[0][0]} and "
            f"{twice[0][1].name}"
        )
    return lines


def _listed(folder: Path, clips: Sequence[_Entry]) -> tuple[dict[str, dict[int, str]], list[str]]:
    """Parts of the split by a recording's number, for each word that the folder's lists name, and what does not fit."""
    numbers = {entry.names: number for number, entry in enumerate(clips)}
    listed: dict[str, dict[int, str]] = {}
    problems, twice = [], set()
    for part, name in _LISTS.items():
        strange, entries = [], list(dict.fromkeys(_list_entries(folder / name)))
        for entry in entries:
            names = tuple(re.split(r"[/\\]+", entry))
            number = next((numbers[tail] for at in range(len(names)) if (tail := names[at:]) in numbers), None)
            if number is None:
                strange.append(entry)
                listed.setdefault("".join(names[-2:-1]), {})
                continue
            word = listed.setdefault(clips[number].word, {})
            if word.get(number, part) != part:
                twice.add(number)
            word[number] = part
        if strange:
            problems.append(
                f"{folder / name}: {len(strange)} of {len(entries)} entries match no clip, the first: {strange[0]!r}"
            )
    if twice:
        problems.append(
            f"{len(twice)} clips are in both lists and count as {part}, the first: {clips[min(twice)].path}"
        )
    return listed, problems


def _list_entries(path: Path) -> list[str]:
    """The lines of a list of a split; none if it does not exist. UTF-8, or UTF-16 as Windows writes it."""
    if not path.exists():
        return []
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from None
    encoding, errors = "utf-8-sig", "surrogateescape"
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding, errors = "utf-16", "replace"
    elif b"\0" in data[:2]:  # without the mark that says so
        encoding, errors = "utf-16-be" if data[0] == 0 else "utf-16-le", "replace"
    lines = re.split(r"[\r\n]+", data.decode(encoding, errors))
    return [spelt(line.strip()) for line in lines if line.strip()]


def index_labelled(folder: str | Path) -> tuple[list[tuple[Path, str]], list[LeftOut]]:
    """Clips of a folder whose sub-folders are labels (``_silence_`` and ``_unknown_`` as in the official test set).

    Returns
    -------
    pairs : list of (path, label)
        Sorted; labels without the surrounding underscores.
    left_out : list of LeftOut
    """
    pairs, entries = [], list(_entries(_folder(folder)))
    left_out = _loose(entries)
    for sub in filter(Path.is_dir, entries):
        if sub.name != BACKGROUND_FOLDER:
            found = find_audio(sub)
            pairs += [(path, spelt(sub.name).strip("_")) for path in found.paths]
            left_out += found.left_out
    if not pairs:
        raise DatasetError(f"{folder}: no clips of the form <label>/*.wav in it")
    return pairs, left_out


def _half(group: str) -> str:
    return "training" if hashlib.sha1(os.fsencode(group)).digest()[0] % 2 == 0 else "reporting"


def recordings(folder: str | Path, half: str | None = None) -> Found:
    """Recordings without keywords anywhere under `folder`, or one half of them: ``training`` or ``reporting``.

    The group that goes into one half as a whole is the LibriSpeech speaker (``<speaker>-<chapter>-<utterance>``), or
    else the recording that a clip was cut from (ESC-50's ``<fold>-<recording>-<take>...``), or else the file.

    Raises
    ------
    DatasetError
        If there are none.
    """
    found = find_audio(folder)
    paths = [path for path in found.paths if not half or _half(group_of(path)) == half]
    if not paths:
        raise DatasetError(f"{folder}: no recordings in it" + (f" of the {half} half" if half else ""))
    return Found(paths, found.left_out)


def group_of(path: Path) -> str:
    parts = path.stem.split("-")
    if len(parts) == 3 and all(p.isdigit() for p in parts):
        return parts[0]
    return "-".join(parts[:2]) if len(parts) > 2 else path.stem


def label_of(word: str, labels: Sequence[str]) -> int:
    """Index of `word` among `labels`; of ``unknown`` if it is not one of them.

    Raises
    ------
    DatasetError
        If neither is a label.
    """
    word, names = spelt(word).strip("_"), [spelt(label).strip("_") for label in labels]
    for name in (word, UNKNOWN):
        if name in names:
            return names.index(name)
    raise DatasetError(f"the word {word!r} is not among the labels {', '.join(labels)}, and there is no {UNKNOWN!r}")


def load_features(folder: str | Path, feature_shape: tuple[int, int]) -> FeatureSet:
    """Precomputed features: ``features.npy``, uint8 (n, frames, mels), memory-mapped, and ``manifest.tsv``.

    Parameters
    ----------
    folder : path
        Holds both files; the manifest has the columns word, speaker and split.
    feature_shape : (frames, mels)
        Shape that the front end gives.

    Raises
    ------
    DatasetError
        If a file is missing, or shapes or row counts disagree.
    """
    folder = _folder(folder)
    levels, columns = _levels(folder / "features.npy"), _manifest(folder / "manifest.tsv")
    if levels.dtype != np.uint8 or levels.shape[1:] != feature_shape:
        raise DatasetError(
            f"{folder}/features.npy: expected uint8 of shape (n, {feature_shape[0]}, {feature_shape[1]}) for this "
            f"front end, got {levels.dtype} {levels.shape}"
        )
    if len(columns[0]) != len(levels):
        raise DatasetError(f"{folder}: manifest.tsv has {len(columns[0])} rows, features.npy {len(levels)}")
    return FeatureSet(levels, *columns)


def _levels(path: Path) -> np.ndarray:
    """The array of a ``.npy`` file, memory-mapped; never what is pickled in it."""
    try:
        if not path.is_file():
            raise DatasetError(f"{path}: no such file")
        with open(path, "rb") as file:
            start = file.read(12)
        if start[6:7] > b"\1" and int.from_bytes(start[8:], "little") > 2**16:
            raise ValueError("its header is too large")
        return np.lib.format.open_memmap(path, mode="r")
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror or error}") from None
    except NPY_DAMAGE as error:
        raise DatasetError(f"{path}: is no whole NumPy array ({' '.join(str(error).split())[:100]})") from None


def _manifest(path: Path) -> list[np.ndarray]:
    """Words, speakers and parts of the split, one of each row."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, delimiter="\t", strict=True)
            rows = []
            for row in reader:
                values = [row.get(name) for name in ("word", "speaker", "split")]
                if None in values or values[2] not in _PARTS:
                    raise DatasetError(
                        f"{path}, line {reader.line_num}: the columns word, speaker and split are expected, the last "
                        f"of {', '.join(_PARTS)}"
                    )
                rows.append([spelt(value) for value in values])
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}") from None
    except (ValueError, csv.Error) as error:
        raise DatasetError(f"{path}: is no table separated by tabs ({error})") from None
    return [np.array([row[i] for row in rows], dtype=str) for i in range(3)]


def count(values: Iterable[str]) -> dict[str, int]:
    """Number of times each value occurs, by value."""
    names, counts = np.unique(list(values), return_counts=True)
    return {str(n): int(c) for n, c in zip(names, counts, strict=True)}
