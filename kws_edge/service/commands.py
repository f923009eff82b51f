"""What outputs may ask of the service, from any thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kws_edge.config import DetectorConfig
    from kws_edge.service.clips import ClipFolder
    from kws_edge.service.events import Reloaded, Telemetry
    from kws_edge.service.taught import Taught

__all__ = ["Commands"]


class Commands(Protocol):
    """The service as outputs see it.

    Any thread may call these methods. They check what they are given, and return at once. A change holds from the next
    inference on, and each room that it concerns then sends :class:`kws_edge.service.events.Reloaded`. No sample is
    lost. `room` is the name of a source; None means every room.

    Raises
    ------
    ConfigError
        By every method, if there is no such room, keyword or value. The message is one line for the user.
    """

    def set_sensitivity(self, value: float, *, room: str | None = None) -> None:
        """Set all thresholds by one number: 0 hears least, 1 hears most, 0.5 is as the model file says."""

    def set_thresholds(self, values: Mapping[str, float], *, room: str | None = None) -> None:
        """Set the thresholds of these keywords. Others keep theirs.

        The threshold of a taught word holds in every room, and is kept at once, in the file of taught words.
        """

    def set_keywords(self, words: Sequence[str], *, room: str | None = None) -> None:
        """Listen for these keywords only."""

    def save(self) -> None:
        """Keep all changes, so that they hold after a restart, too.

        Raises
        ------
        WriteError
            If they cannot be written.
        """

    def reload(self) -> None:
        """Read the configuration and the model anew, as SIGHUP does. A bad file leaves everything as it is."""

    def was_wrong(self, *, room: str | None = None, end_s: float | None = None) -> None:
        """Say that a detection was wrong: the one that ended at `end_s`, or the last one.

        An output that keeps clips gets it as :meth:`kws_edge.service.outputs.base.Output.was_wrong`.
        """

    def audio(self, room: str, start_s: float, end_s: float) -> NDArray[np.int16]:
        """The audio of a room from `start_s` to `end_s` of its stream, shape (n,), int16, at the model's rate.

        The service keeps the last 10 s. What it has no more, or not yet, is missing.
        """

    def sample_rate(self, room: str) -> int:
        """Rate of :meth:`audio`, in Hz."""

    def detector_config(self, room: str) -> DetectorConfig:
        """Settings of a room's detector, with the thresholds of the model file."""

    def rooms(self) -> Mapping[str, Reloaded]:
        """What each room listens for now, by name."""

    def telemetry(self) -> Mapping[str, Telemetry]:
        """The last telemetry of each room, by name."""

    def outputs(self) -> Mapping[str, Mapping[str, int]]:
        """Counts of each output: ``sent``, ``dropped``, ``failed``, ``waiting``."""

    def clips(self) -> ClipFolder | None:
        """The recordings that an output keeps; None if none does."""

    def taught(self) -> Taught | None:
        """The taught words, and what changes them; None if the configuration does not ask for them."""

    def state_folder(self) -> str:
        """Folder of what is kept from one start to the next. It may be missing."""
