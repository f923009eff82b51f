"""Checks that there are examples of every label, and notes what the examples do not tell."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from host_tools.config import DataConfig
from host_tools.data.dataset import BACKGROUND_FOLDER, Clip, Voices
from host_tools.data.label_sets import LABEL_SETS, label_name
from host_tools.data.recordings import LeftOut, first_left_out
from host_tools.errors import DatasetError
from host_tools.sampling.sources import Files, find_files
from kws_edge.config import FrontendConfig
from kws_edge.labels import SILENCE, UNKNOWN
from kws_edge.text import printable

__all__ = ["check_sources", "notes", "require"]

_UNKNOWN_FOLDER = f"_{UNKNOWN}_"


def check_sources(data: DataConfig, config: FrontendConfig, labels: Sequence[str], *, seed: int = 0) -> Files:
    """The files that :mod:`host_tools.sampling.examples` can make examples from, by the names of files alone.

    Raises
    ------
    DatasetError
        If a folder is wrong, or a label has no training or no validation example.
    """
    files = find_files(data, config, seed=seed)
    unheard = {*labels} - {SILENCE, UNKNOWN} - files.every_word
    if unheard:
        raise DatasetError(
            f"{data.source}: no recordings of {', '.join(sorted(unheard))}; --labels takes a label set "
            f"({', '.join(LABEL_SETS)}), or words that have a folder there or in what kws-host synthesize made"
        )
    kinds_heard = {kind for kind, paths in files.banks if paths}
    stand_ins = files.stand_ins(labels)
    require(
        data.source,
        labels,
        files.words("training") | {c.word for c in files.synthetic if c.split == "training"},
        files.words("validation") | {c.word for c in stand_ins},
        noise="noise" in kinds_heard,
        speech=bool(kinds_heard - {"noise"}),
    )
    return files


def require(
    folder: Path,
    labels: Sequence[str],
    training: Collection[str],
    validation: Collection[str],
    *,
    noise: bool,
    speech: bool,
    left_out: Sequence[LeftOut] = (),
) -> None:
    """Raise an error with the remedy, unless every label has examples for training and validation.

    Parameters
    ----------
    folder : path
        Folder of the clips.
    labels : sequence of str
    training, validation : collection of str
        Words that have examples.
    noise, speech : bool
        Whether there are recordings without keywords.
    left_out : sequence of LeftOut
        Files that could not be read, if they are known.
    """
    more = first_left_out(left_out)
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


def notes(files: Files, unrecorded: Sequence[str], stand_ins: Sequence[Clip]) -> list[str]:
    """Lines on what accuracy on the validation set does not tell.

    Parameters
    ----------
    files : Files
    unrecorded : sequence of str
        Labels that only synthetic speech trains.
    stand_ins : sequence of Clip
        Synthetic clips that validate in place of recordings.
    """
    lines = []
    if unrecorded:
        lines.append(f"no recorded training clip of {', '.join(unrecorded)}: only synthetic speech trains it")
    if stand_ins:
        words = sorted({c.word for c in stand_ins})
        lines.append(f"no recorded validation clip of {', '.join(words)}: synthetic voices that do not train stand in")
    if voices := str(Voices.of(files.recorded)):
        lines.append(voices)
    return [printable(line) for line in lines]
