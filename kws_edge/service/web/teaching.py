"""What the page may do with taught words: list them, teach and remove one, and say what a clip is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kws_edge.errors import ConfigError, KwsError
from kws_edge.service.events import utc_now

if TYPE_CHECKING:
    from kws_edge.service.clips import ClipFolder
    from kws_edge.service.commands import Commands
    from kws_edge.service.taught import Taught

__all__ = ["Teaching"]


class Teaching:
    """Changes taught words by clips of the service. Every method may take seconds.

    Parameters
    ----------
    service : Commands
    clips : callable
        Returns the clips, or raises if none are kept.
    """

    def __init__(self, service: Commands, clips: Callable[[], ClipFolder]) -> None:
        self._service, self._clips = service, clips

    def _words(self) -> Taught:
        if (words := self._service.taught()) is None:
            raise ConfigError("taught words are not heard: set taught = true in the section [model]")
        return words

    def listed(self) -> list[dict[str, Any]]:
        """What the page shows of each word; see :meth:`kws_edge.service.taught.Taught.listed`."""
        return self._words().listed()

    def teach(self, name: str, clips: Sequence[str]) -> None:
        """Teach a word from clips, which are then kept as clips of it.

        Raises
        ------
        KwsError
            As ``kws-edge teach`` does, for the same reasons.
        """
        words, folder = self._words(), self._clips()
        words.teach(name, [folder.find(clip).path for clip in clips], date=utc_now())
        for clip in clips:
            with suppress(KwsError):  # the word is taught, and a clip without its label can teach another time
                folder.label(clip, name)

    def remove(self, name: str) -> None:
        """Forget a word."""
        self._words().remove(name)

    def label(self, clip: str, word: str) -> dict[str, Any]:
        """Say which word a clip holds. Taught words that were heard in it wrongly learn from that.

        Returns
        -------
        dict
            ``name``: the clip's new name. ``learnt``: words that have learnt. ``note``: why one could not.
        """
        folder, taught = self._clips(), self._service.taught()
        name = folder.label(clip, word)
        learnt, note = [], ""
        if taught:
            try:
                learnt = list(taught.was_wrong(folder.find(name).path, said=word))
            except KwsError as error:  # the clip has its label
                note = str(error)
        return {"name": name, "learnt": learnt, "note": note}
