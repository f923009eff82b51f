"""The machine's temperature."""

from __future__ import annotations

import os
from contextlib import suppress

__all__ = ["temperature_c"]


def temperature_c(root: str | os.PathLike[str] = "/") -> float | None:
    """Temperature of the machine's hottest thermal zone, in degrees Celsius; None if it tells none.

    Parameters
    ----------
    root : path
        Folder that holds ``sys``.

    Examples
    --------
    >>> from kws_edge.diagnostics.temperature import temperature_c
    >>> temperature_c("/nowhere") is None
    True
    """
    folder = os.path.join(root, "sys/class/thermal")
    found = []
    with suppress(OSError):
        for zone in os.listdir(folder):
            if zone.startswith("thermal_zone"):
                with suppress(OSError, ValueError), open(os.path.join(folder, zone, "temp"), encoding="ascii") as file:
                    found.append(int(file.read()) / 1000)
    return max(found, default=None)
