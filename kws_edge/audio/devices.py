"""The devices that can record, and the choice of one of them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kws_edge.audio.capture import Capture, InputDevice
from kws_edge.errors import AudioError

__all__ = ["choose_device", "find_device", "input_devices", "same_device"]


def input_devices() -> list[InputDevice]:
    """List every device that can record: PortAudio's devices, then the sound server's sources.

    Raises
    ------
    AudioError
        If PortAudio is missing, fails, or does not answer.

    Examples
    --------
    >>> from kws_edge import input_devices
    >>> [(device.name, device.channels, device.rate) for device in input_devices() if device.default]
    [('default', 32, 44100)]
    """
    with Capture() as capture:
        return [*capture.devices(), *capture.sources()]


def find_device(wanted: str | int | None, devices: Sequence[InputDevice] | None = None) -> InputDevice:
    """Find an input device by its number, or by its name or a part of it. None means the default device.

    For sources of the sound server, the description counts as a name, too. If the text matches a PortAudio device and a
    source, the device is returned. If it matches a source and a monitor, the source is returned.

    Parameters
    ----------
    wanted : str or int, optional
    devices : sequence of InputDevice, optional
        Devices to choose from; by default those of :func:`input_devices`.

    Raises
    ------
    AudioError
        If no device matches, or more than one.
    """
    devices = input_devices() if devices is None else devices
    if not devices:
        raise AudioError("no microphone found; plug one in, and see `kws-edge devices`")
    if wanted is None:
        return next((d for d in devices if d.default), devices[0])
    if isinstance(wanted, int) or (wanted.isascii() and wanted.isdigit() and len(wanted) < 10):
        matches = [d for d in devices if d.index == int(wanted)]
    else:
        matches = _named(wanted, devices)
    if not matches:
        near = _near(str(wanted), devices)
        what = f"no input device {wanted!r} (or another program holds it)"
        raise AudioError(what + (f"; near it: {near}" if near else "") + "; `kws-edge devices` lists them")
    if len(matches) > 1:
        names = "; ".join(d.name if d.index is None else f"{d.index} {d.name}" for d in matches)
        remedy = "the whole name" if matches[0].index is None else "the number"
        raise AudioError(f"several input devices match {wanted!r}: {names}. Give {remedy}")
    return matches[0]


def _named(wanted: str, devices: Sequence[InputDevice]) -> list[InputDevice]:
    """Return the devices that match a text best."""
    part = [d for d in devices if wanted.strip() and wanted.lower() in f"{d.name}\n{d.description}".lower()]
    return (
        [d for d in part if d.name == wanted]
        or [d for d in part if d.description == wanted]
        or [d for d in part if d.index is not None]
        or [d for d in part if not d.monitor]
        or part
    )


def _near(wanted: str, devices: Sequence[InputDevice]) -> str:
    """Name the devices whose name, or one word of it, is spelt like `wanted`."""
    import difflib

    names = {}
    for d in reversed(devices):
        for text in (d.name, d.description):
            names.update(dict.fromkeys([text.lower(), *re.findall(r"[^\W_]{3,}", text.lower())], d.name))
    close = difflib.get_close_matches(wanted.lower(), names, n=9)
    return ", ".join(list(dict.fromkeys(names[text] for text in close))[:3])


def choose_device(wanted: str | int | InputDevice | None, capture: Capture) -> InputDevice:
    """Choose a device. The sound server is asked for its sources only if PortAudio's devices may not be enough."""
    if isinstance(wanted, InputDevice):
        return wanted
    devices = capture.devices()
    if not devices or (isinstance(wanted, str) and wanted not in [d.name for d in devices]):
        devices = [*devices, *capture.sources()]
    return find_device(wanted, devices)


def same_device(device: InputDevice, capture: Capture, timeout: float) -> InputDevice:
    """Find a device again by its name. ALSA's card number in the name may have changed."""

    def bare(text: str) -> str:
        return re.sub(r" \(hw:\d+,\d+\)$", "", text)

    devices = capture.sources(timeout=timeout) if device.index is None else capture.devices(timeout=timeout)
    for found in sorted(devices, key=lambda found: found.name != device.name):
        if bare(found.name) == bare(device.name):
            return found
    raise AudioError(f"no input device {device.name!r}")
