"""The standard conditions by name, and the folders that each of them takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from host_tools.data.recordings import existing_folder
from host_tools.errors import DatasetError

__all__ = ["CONDITIONS", "GATE_DB", "KINDS", "SNR_DB", "WORDS", "Folders", "WordCondition"]

GATE_DB = 25.0
"""The noise gate of the standard conditions closes where a word is this far below its peak."""
SNR_DB = 10.0
"""How far the background of words is below them."""


@dataclass(frozen=True)
class WordCondition:
    """How the words of a standard stream are heard. The stream follows from the seed."""

    seed: int
    about: str
    behind: str = ""
    """Kind of recordings behind the words, one of :data:`KINDS`; empty: faint hiss."""
    gate_db: float | None = None


WORDS = {
    "quiet": WordCondition(101, "in quiet"),
    "gated": WordCondition(101, "between digital silence", gate_db=GATE_DB),
    "noise": WordCondition(102, "over environmental sounds", behind="sounds"),
    "babble": WordCondition(103, "over running speech", behind="speech"),
    "music": WordCondition(104, "over music", behind="music"),
}
"""Conditions of words, by name."""
KINDS = ("speech", "sounds", "music")
"""Kinds of recordings without keywords."""
CONDITIONS = (*WORDS, "independent", "negatives")
"""Names of the standard conditions."""


@dataclass(frozen=True)
class Folders:
    """The folders that standard conditions take their recordings from."""

    data: Path
    """Holds ``speech_commands``, ``independent``, ``negatives/speech``, ``negatives/noise`` and ``negatives/music``."""
    music: Path | None = None
    """Folder of music, in place of ``negatives/music``."""

    @property
    def clips(self) -> Path:
        """The folder of Speech Commands."""
        return self.data / "speech_commands"

    @property
    def independent(self) -> Path:
        """The folder of independent recordings."""
        return self.data / "independent"

    @property
    def kinds(self) -> dict[str, Path]:
        """The folders of recordings without keywords, by kind."""
        negatives = self.data / "negatives"
        return {
            "speech": negatives / "speech",
            "sounds": negatives / "noise",
            "music": self.music or negatives / "music",
        }

    def chosen(self, wanted: Sequence[str] = ()) -> tuple[tuple[str, ...], dict[str, str]]:
        """The conditions to measure, in their order, and why others cannot be measured.

        Parameters
        ----------
        wanted : sequence of str
            Names of conditions; empty: all whose recordings are there.

        Raises
        ------
        DatasetError
            If the recordings of a wanted condition are missing, or those of all conditions, or the folder of music.
        """
        if self.music:
            existing_folder(self.music)
        reasons = {name: reason for name in CONDITIONS if (reason := self._why_not(name))}
        for name in wanted:
            if name in reasons:
                raise DatasetError(f"{name}: {reasons[name]}")
        measured = tuple(name for name in CONDITIONS if name in (wanted or CONDITIONS) and name not in reasons)
        if not measured:
            raise DatasetError(f"{self.data}: nothing to measure on: {reasons[CONDITIONS[0]]}")
        return measured, {} if wanted else reasons

    def _why_not(self, name: str) -> str:
        """Why a condition cannot be measured; an empty text if it can."""
        if name == "independent":
            needed = [self.independent]
        elif name == "negatives":
            needed = [] if self.negatives() else list(self.kinds.values())
        else:
            behind = self.kinds.get(WORDS[name].behind)
            needed = [self.clips, *([behind] if behind else [])]
        missing = next((folder for folder in needed if not folder.is_dir()), None)
        if missing is None:
            return ""
        remedy = "; `kws-host collect --from music -o music` gathers some for --music music/noise"
        return f"{missing}: no such folder" + remedy * (missing == self.kinds["music"])

    def negatives(self) -> dict[str, Path]:
        """The folders of recordings without keywords that are there, by kind."""
        return {kind: folder for kind, folder in self.kinds.items() if folder.is_dir()}
