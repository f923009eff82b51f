"""Makes synthetic speech without the keywords, and words that have no recordings.

The voices are those of the installed free synthesisers: espeak-ng, flite, festival, RHVoice. Each utterance depends on
its number and the seed alone, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from host_tools.data.sentences import from_text, sentence
from host_tools.data.sound_files import write_sound
from host_tools.errors import DatasetError
from kws_edge.audio.file import AudioFile
from kws_edge.errors import AudioError
from kws_edge.features.frontend import fit_clip
from kws_edge.files import write_atomically

__all__ = ["Voice", "synthesize_speech", "synthesize_words", "voices"]

_RATE = 16000
_UTTERANCE_S = 6.0  # mean length of an utterance
_ACCENTS = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-029", "en-gb-x-gbclan", "en-gb-x-gbcwmd")
_MACHINES = re.compile(r"robo|robot|whisper|demonic|half-life|croak|fast_test|storm", re.IGNORECASE)
_PEAK_DB = (-24.0, -3.0)
_FLOOR_DB = -40.0
"""Level below the loudest moment. Where the sound is quieter, the word has not begun or has ended."""


@dataclass(frozen=True)
class Voice:
    """A synthesiser's voice."""

    engine: str
    name: str

    @property
    def speaker(self) -> str:
        """The speaker's name in file names, of letters and digits."""
        return f"{self.engine}-{re.sub('[^A-Za-z0-9]', '', self.name)}"

    def command(self, text: str, target: str, rng: np.random.Generator) -> tuple[list[str], str | None]:
        """The command that speaks `text` to the WAV file `target`, and the text for its standard input.

        Speed and pitch vary within the range in which a voice stays natural.
        """
        speed = rng.uniform(0.8, 1.3)
        if self.engine == "espeak":
            accent = _ACCENTS[rng.integers(len(_ACCENTS))]
            words_a_minute, pitch = round(165 * speed), int(rng.integers(25, 75))
            options = ["-v", f"{accent}+{self.name}", "-s", str(words_a_minute), "-p", str(pitch)]
            return ["espeak-ng", *options, "-w", target, text], None
        if self.engine == "flite":
            return [
                "flite",
                "-voice",
                self.name,
                "--setf",
                f"duration_stretch={1 / speed:.2f}",
                "-t",
                text,
                "-o",
                target,
            ], None
        if self.engine == "festival":
            stretch = f"(Parameter.set 'Duration_Stretch {1 / speed:.2f})"
            return ["text2wave", "-o", target, "-eval", f"(voice_{self.name})", "-eval", stretch], text
        return ["RHVoice-test", "-p", self.name, "-r", str(round(100 * speed)), "-o", target], text


def voices() -> list[Voice]:
    """The voices that are installed, each engine's in order.

    Raises
    ------
    DatasetError
        If no synthesiser is installed.
    """
    found = []
    if shutil.which("espeak-ng"):
        lines = _run(["espeak-ng", "--voices=variant"]).splitlines()[1:]
        names = sorted({line.split()[4].removeprefix("!v/") for line in lines if len(line.split()) > 4})
        found += [Voice("espeak", name) for name in names if not _MACHINES.search(name)]
    if shutil.which("flite"):
        names = _run(["flite", "-lv"]).split(":", 1)[-1].split()
        found += [Voice("flite", name) for name in sorted(names) if not name.startswith("awb_")]
    if shutil.which("text2wave"):
        folders = sorted(Path("/usr/share/festival/voices").glob("*/*"))
        found += [Voice("festival", f.name) for f in folders if f.parent.name in ("english", "us")]
    if shutil.which("RHVoice-test"):
        names = sorted(p.name for p in Path("/usr/share/RHVoice/voices").glob("*"))
        found += [Voice("rhvoice", name) for name in names]
    if not found:
        raise DatasetError("no speech synthesiser is installed: apt install espeak-ng flite festival")
    return found


def synthesize_speech(
    folder: str | Path, *, minutes: float, avoid: Collection[str], text: str | None = None, seed: int = 0
) -> float:
    """Write speech without the words `avoid`: ``<voice>-<n>.flac`` of some seconds each, 16 kHz, and ``texts.csv``.

    Parameters
    ----------
    folder : path
    minutes : float
        About how much there is afterwards. Speech of an earlier call counts.
    avoid : collection of str
        Words that must not occur.
    text : str, optional
        Text to speak, sentence by sentence; by default random sentences.
    seed : int

    Returns
    -------
    float
        Minutes of speech in the folder.
    """
    folder, known = Path(folder), voices()
    sentences = from_text(text, avoid) if text is not None else None

    def make(number: int) -> tuple[list[str], float]:
        rng = np.random.default_rng((seed, number))
        voice = _drawn(known, rng)
        said: list[str] = []
        while len(" ".join(said)) < 60:  # characters, about four seconds of speech
            said.append(sentences[rng.integers(len(sentences))] if sentences else sentence(rng, avoid))
        path = folder / f"{voice.speaker}-{number:06d}.flac"
        if not path.exists():
            samples = _spoken(voice, " ".join(said), rng)
            write_sound(path, _levelled(samples, rng), _RATE)
        return [path.name, voice.speaker, " ".join(said)], _minutes(path)

    n = max(1, round(60 * minutes / _UTTERANCE_S))
    made = list(tqdm(_in_order(make, n), total=n, desc="speech", unit="utterance", mininterval=0.5))
    rows = [row for row, _ in made]
    write_atomically(folder / "texts.csv", lambda p: _write_rows(p, [["file", "voice", "text"], *rows]))
    return sum(length for _, length in made)


def synthesize_words(folder: str | Path, words: Sequence[str], *, per_word: int, seed: int = 0) -> int:
    """Write clips of words, laid out as Speech Commands is: ``<word>/<voice>_nohash_<n>.wav``, 1 s at 16 kHz.

    Parameters
    ----------
    folder : path
    words : sequence of str
    per_word : int
        Clips of each word. Clips of an earlier call count.
    seed : int

    Returns
    -------
    int
        Number of clips in the folder.
    """
    folder, known = Path(folder), voices()
    for word in words:
        if not re.fullmatch(r"[\w' -]+", word):
            raise DatasetError(f"{word!r} is no word that can be spoken and name a folder")

    def make(number: int) -> tuple[list[str], float]:
        word = words[number % len(words)]
        rng = np.random.default_rng((seed, 1, number))
        voice = _drawn(known, rng)
        path = folder / word / f"{voice.speaker}_nohash_{number // len(words)}.wav"
        if not path.exists():
            samples = _levelled(_word_in(_spoken(voice, word, rng)), rng)
            write_sound(path, samples, _RATE)
        return [], 1

    wanted = per_word * len(words)
    for _ in tqdm(_in_order(make, wanted), total=wanted, desc="words", unit="clip", mininterval=0.5):
        pass
    return wanted


def _minutes(path: Path) -> float:
    with AudioFile(path, sample_rate=_RATE) as file:
        return (file.seconds or 0.0) / 60


def _in_order(make: Callable[[int], tuple[list[str], float]], n: int) -> Iterator[tuple[list[str], float]]:
    """Results of ``make(0)`` to ``make(n - 1)``. As many threads as cores each wait for a synthesiser."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [pool.submit(make, number) for number in range(n)]
        try:
            for job in jobs:
                yield job.result()
        finally:
            for job in jobs:
                job.cancel()


def _drawn(known: Sequence[Voice], rng: np.random.Generator) -> Voice:
    """A random voice. Engines have one to a hundred voices, and are drawn by the square root of that number."""
    engines = [voice.engine for voice in known]
    weights = np.array([engines.count(engine) ** -0.5 for engine in engines])
    return known[rng.choice(len(known), p=weights / weights.sum())]


def _spoken(voice: Voice, text: str, rng: np.random.Generator) -> NDArray[np.int16]:
    """Speech of `text`, int16 samples at 16 kHz."""
    with tempfile.TemporaryDirectory() as temporary:
        target = os.path.join(temporary, "speech.wav")
        command, typed = voice.command(text, target, rng)
        _run(command, typed)
        try:
            with AudioFile(target, sample_rate=_RATE) as file:
                return file.read_all()
        except AudioError as error:
            raise DatasetError(f"{' '.join(command[:3])}: gave no audio for {text!r} ({error})") from None


def _word_in(samples: NDArray[np.int16]) -> NDArray[np.int16]:
    """The spoken part of the samples, centred in a second."""
    power = np.convolve(np.square(samples.astype(np.float64)), np.ones(160) / 160, mode="same")
    loud = np.flatnonzero(power > power.max() * 10 ** (_FLOOR_DB / 10))
    return fit_clip(samples[loud[0] : loud[-1] + 1] if len(loud) else samples, _RATE)


def _levelled(samples: NDArray[np.int16], rng: np.random.Generator) -> NDArray[np.int16]:
    peak = 32768 * 10 ** (rng.uniform(*_PEAK_DB) / 20)
    return np.clip(samples * (peak / max(1, np.abs(samples.astype(np.int32)).max())), -32768, 32767).astype(np.int16)


def _run(command: list[str], typed: str | None = None) -> str:
    done = subprocess.run(command, input=typed, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DatasetError(f"{command[0]} failed with status {done.returncode}: {done.stderr.strip()[:200]}")
    return done.stdout


def _write_rows(path: str, rows: list[list[str]]) -> None:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)
