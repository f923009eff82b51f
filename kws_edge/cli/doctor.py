"""``kws-edge doctor``: find faults of software, microphone and signal, and say what to do."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kws_edge.audio.capture import Capture, InputDevice
from kws_edge.audio.devices import find_device
from kws_edge.audio.file import AudioFile
from kws_edge.audio.microphone import Microphone
from kws_edge.cli import options
from kws_edge.cli.listen import add_microphone, check_device
from kws_edge.cli.say import say
from kws_edge.detection.room_profile import RoomProfile
from kws_edge.diagnostics.latency import OFF, wall_clock
from kws_edge.diagnostics.signal_quality import FAULT, REMARK, Channel, Finding, SignalQuality, as_dict, findings
from kws_edge.diagnostics.sound_server import MOST_CHANNELS, SoundServer, is_monitor, server_of, user_name
from kws_edge.errors import AudioError, KwsError, RuntimeUnavailableError
from kws_edge.model.model import Model
from kws_edge.model.runtime import installed
from kws_edge.model.stream import stream_of
from kws_edge.ranges import number
from kws_edge.text import counted, printable

if TYPE_CHECKING:
    from kws_edge.cli.parser import Commands

SOFTWARE, DEVICE, SIGNAL = 3, 4, 5
"""Exit statuses."""
_RATE = 16000
_SECONDS = 5.0
_OTHER_SECONDS = 1.0
_MOST_OTHERS = 8
_RATE_OFF = 0.06


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "doctor",
        help="find out why it does not hear",
        description="Check Python, runtime and model, the microphone and who may use it. Then listen for some seconds; "
        "please say something meanwhile. With FILE, examine a recording instead of the microphone.",
        epilog="Exit status: 0 nothing is wrong, 1 FILE cannot be read, 2 wrong usage, 3 a fault of the software, "
        "4 of the microphone, 5 of the signal. If there are several faults, the lowest of 3 to 5 is given.",
    )
    parser.add_argument("file", nargs="?", metavar="FILE", help="recording of any format")
    add_microphone(parser, "rate to open the microphone at")
    parser.add_argument(
        "--seconds",
        type=number(0.1, 3600),
        default=_SECONDS,
        metavar="S",
        help="time to listen",
    )
    options.add_model(parser)
    parser.add_argument("--json", action="store_true", help="the result as one JSON object")
    parser.set_defaults(run=run)


class Report:
    """The measurements and findings. They are printed as they come, unless the report ends as JSON."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self.status = 0
        self.values: dict[str, Any] = {}
        self.findings: list[Finding] = []

    def measured(self, name: str, text: str, /, **values: Any) -> None:
        """Add a measurement, which is neither right nor wrong."""
        self.values[name] = values
        if self._shown:
            print(f"{name:<10} {text}", flush=True)

    def found(self, status: int, *found: Finding) -> None:
        """Add findings. If one of them is a fault, the exit status is `status`, or an earlier lower one."""
        self.findings += found
        if any(finding.level == FAULT for finding in found):
            self.status = min(status, self.status or status)

    def print(self) -> None:
        """Print the findings, or that there are none."""
        for f in self.findings:
            print(f"\n{f.level.upper()} {f.code}: {printable(f.what)}")
            if f.remedy:
                print(f"  do: {printable(f.remedy)}")
        if not self.status:
            print("\nnothing is wrong")

    def as_dict(self) -> dict[str, Any]:
        """The whole report, for JSON."""
        found = [dataclasses.asdict(finding) for finding in self.findings]
        return {"date": wall_clock(), "status": self.status, "findings": found, **self.values}


def run(args: argparse.Namespace) -> int:
    if args.file:
        check_device(args, "a recording")
    report = Report(shown=not args.json)
    model = _software(args, report)
    rate = model.frontend_config.sample_rate if model else _RATE
    if args.file:
        _recording(args.file, rate, report)
    else:
        _microphone(args, rate, report)
    if args.json:
        print(json.dumps(report.as_dict()))
    else:
        report.print()
    return report.status


def _software(args: argparse.Namespace, report: Report) -> Model | None:
    """Check Python, NumPy, the runtime, the model and its room profile."""
    found = installed()
    runtimes = ", ".join(f"{name} {version}" for name, version in found.items()) or "no TFLite runtime"
    report.measured(
        "software",
        f"Python {platform.python_version()}, NumPy {np.__version__}, {runtimes}, {platform.machine()}",
        python=platform.python_version(),
        numpy=np.__version__,
        runtimes=found,
        machine=platform.machine(),
    )
    try:
        model = options.load_model(args)
    except RuntimeUnavailableError as error:
        report.found(SOFTWARE, Finding("runtime", str(error)))
        return None
    except KwsError as error:
        remedy = "get a whole copy, or try a shipped model: kws-edge doctor --model commands12"
        report.found(SOFTWARE, Finding("model", str(error), remedy))
        return None
    hop = model.hop_frames(model.detector_config.step_ms)
    stream, frames = stream_of(model, hop), np.tile(model.frontend.silence(), (hop, 1))
    times = [time.perf_counter()]
    for _ in range(6):  # the first inference includes preparations
        stream.posteriors(frames, OFF)
        times.append(time.perf_counter())
    took_ms = 1000 * float(np.median(np.diff(times[1:])))
    report.measured(
        "model",
        f"{model.path}, {model.size:,} bytes, {took_ms:.3f} ms an inference by {model.interpreter.runtime}",
        file=model.path,
        inference_ms=round(took_ms, 3),
        runtime=model.interpreter.runtime,
    )
    step_ms = hop * model.frontend_config.hop_ms
    if took_ms > step_ms:
        what = f"an inference takes {took_ms:.0f} ms, and there is one every {step_ms:g} ms"
        report.found(SOFTWARE, Finding("slow", what, "--threads 4, a longer --step-ms, or a smaller model"))
    try:
        RoomProfile.find(model)
    except KwsError as error:
        report.found(SOFTWARE, Finding("room", str(error)))
    return model


def _recording(name: str, rate: int, report: Report) -> None:
    with AudioFile(name, sample_rate=rate) as audio:
        quality = SignalQuality(audio.source_rate, audio.channels)
        for frames in audio.frames():
            quality.add(frames)
    if not quality.channels():
        raise AudioError(f"{name}: is too short to examine")
    _signal(quality, report, audio.source_rate)


def _signal(quality: SignalQuality, report: Report, rate: float) -> list[Channel]:
    channels = quality.channels()
    if not channels:
        raise AudioError(f"{counted(quality.n_samples, 'sample')}: too few to examine")
    text = f"{quality.n_samples / quality.rate:.1f} s at {rate:.0f} Hz"
    for i, c in enumerate(channels, 1):
        text += f"\n{f'channel {i}':<10} peak {c.peak_db:.1f} dBFS, loud {c.level_db:.1f}, floor {c.floor_db:.1f}, "
        text += f"offset {c.offset:+.2%}, clipped {c.clipped:.3%}, silent {c.silent:.0%}"
    report.measured(
        "signal",
        text,
        seconds=round(quality.n_samples / quality.rate, 3),
        rate=round(rate, 1),
        channels=[as_dict(c) for c in channels],
    )
    report.found(SIGNAL, *findings(channels))
    return channels


def _microphone(args: argparse.Namespace, rate: int, report: Report) -> None:
    """Check whether there is a microphone, and whether this user may use it."""
    if permission := _permission(Path("/dev/snd")):
        report.found(DEVICE, permission)
    with Capture() as capture:
        try:
            devices = [*capture.devices(), *capture.sources()]
            names = [d.name if d.index is None else f"{d.index} {d.name}" for d in devices]
            report.measured("devices", printable("; ".join(names)) or "none", names=names)
            found = find_device(args.device, devices)
        except AudioError as error:
            code, remedy = "no-device", _why_none(Path("/proc/asound"))
            if "needs" in str(error):
                code, remedy = "portaudio", ""
            report.found(DEVICE, Finding(code, str(error), remedy))
            return
        _device(args, capture, found, devices, rate, report)


def _device(
    args: argparse.Namespace,
    capture: Capture,
    found: InputDevice,
    devices: list[InputDevice],
    rate: int,
    report: Report,
) -> None:
    """Check whether the device delivers samples, and whether it is the right one."""
    server = SoundServer()
    try:
        # A sound server gives any number of channels; only those of the source behind it matter.
        wanted = server.channels() if found.channels > MOST_CHANNELS else found.channels
        opened_as = {"sample_rate": rate, "device_rate": args.rate, "channels": wanted}
        microphone = Microphone(found, **opened_as, patience_s=0, capture=capture)
        if not args.json:
            say(f"listening to {found.name} for {args.seconds:g} s; say something")
        quality, source = _hear(microphone, args.seconds, report, server)
    except AudioError as error:
        if finding := _held_by_server(Path("/proc/asound")):
            report.found(DEVICE, finding)
            return
        held = " (" + "; ".join(_holders(Path("/proc/asound"))) + ")"
        code = "busy" if "busy" in str(error) else "no-audio"
        remedy = "see whether another program records" + (held if len(held) > 3 else "") + ", or plug it in again"
        report.found(DEVICE, Finding(code, str(error), remedy))
        return
    if microphone.source_rate != rate:
        what = f"the microphone does not take {args.rate or rate} Hz; opened at {microphone.source_rate} and converted"
        remedy = "nothing: it works, at some cost; a microphone that takes it is cheaper to listen to"
        report.found(DEVICE, Finding("converted", what, remedy, REMARK))
    _input(found, quality, source, devices, rate, report)


def _hear(
    microphone: Microphone, seconds: float, report: Report, server: SoundServer
) -> tuple[SignalQuality, dict[str, Any] | None]:
    """Listen; report the rate at which samples come, and how many are lost."""
    quality = SignalQuality(microphone.source_rate, microphone.channels)
    arrived: list[tuple[float, int]] = []
    source, n = None, 0
    with microphone:
        for frames in microphone.frames():
            if not arrived:
                source = server.source_of(microphone.process_id)
            n += len(frames)
            arrived.append((time.perf_counter(), n))
            quality.add(frames)
            if arrived[-1][0] - arrived[0][0] >= seconds:
                break
    queue = microphone.queue
    behind = f", from {source['name']}" if source and source["name"] != microphone.name else ""
    channels = counted(microphone.channels, "channel")
    report.measured(
        "device",
        printable(f"{microphone.name}{behind}: {channels} at {microphone.source_rate} Hz"),
        name=microphone.name,
        source=source and source["name"],
        channels=microphone.channels,
        rate=microphone.source_rate,
        dropped=queue.dropped,
        overruns=queue.overruns,
    )
    if queue.overruns or microphone.lost_samples:
        what = f"{counted(queue.overruns, 'overrun')}, {counted(queue.dropped, 'sample')} dropped in {seconds:g} s"
        report.found(SIGNAL, Finding("overruns", what, "close what else is running, or take another USB port"))
    # In the first second, a sound server may deliver all its buffered samples at once.
    steady = np.array([(t, k) for t, k in arrived if t > arrived[0][0] + 1.0])
    actual = float(np.polyfit(steady[:, 0] - steady[0, 0], steady[:, 1], 1)[0]) if len(steady) > 9 else None
    if actual and abs(actual / microphone.source_rate - 1) > _RATE_OFF:
        what = f"{actual:.0f} samples a second arrive where the device promised {microphone.source_rate}"
        remedy = "speech is heard at the wrong speed: set the device's true rate where it is configured, or replace it"
        report.found(SIGNAL, Finding("rate", what, remedy))
    _signal(quality, report, actual or microphone.source_rate)
    return quality, source


def _input(
    found: InputDevice,
    quality: SignalQuality,
    source: dict[str, Any] | None,
    devices: list[InputDevice],
    rate: int,
    report: Report,
) -> None:
    """Check for a wrong input: a monitor, or a silent input although another one has sound."""
    if source and source["mute"]:
        remedy = f"pactl set-source-mute {source['name']} 0"
        report.found(DEVICE, Finding("muted", f"{source['name']} is muted in the sound server", remedy))
    if source and is_monitor(source):
        real = [d.name for d in devices if d.index is None and not d.monitor]
        remedy = (
            f"--device {real[0]}, or for all programs pactl set-default-source {real[0]}"
            if real
            else "plug in a microphone: the server has none"
        )
        what = f"{source['name']} is a monitor: it hears what the machine plays, and nobody who speaks"
        report.found(DEVICE, Finding("monitor", what, remedy))
    if any(c.silent < 1 for c in quality.channels()):
        return
    # The sound server's name of the source, if a server is behind the device; otherwise PortAudio's name.
    name = source["name"] if source else found.name
    others = [d for d in devices if (d.index is None) == bool(source) and d.name != name and not d.monitor]
    for device in others[:_MOST_OTHERS]:
        try:
            with Microphone(device, sample_rate=rate, patience_s=0) as microphone:
                other = SignalQuality(microphone.source_rate, microphone.channels)
                for frames in microphone.frames():
                    other.add(frames)
                    if other.n_samples >= _OTHER_SECONDS * microphone.source_rate:
                        break
        except AudioError:
            continue
        level = max((c.level_db for c in other.channels() if c.silent < 1), default=None)
        if level is not None:
            what = f"the chosen input is silent, and {device.name} has sound, up to {level:.0f} dBFS"
            report.found(DEVICE, Finding("wrong-input", what, f"--device {shlex.quote(device.name)}"))
            return


def _permission(folder: Path) -> Finding | None:
    """Check whether the kernel's sound devices refuse this user."""
    closed = [str(path) for path in sorted(folder.glob("pcm*c")) if not os.access(path, os.R_OK | os.W_OK)]
    if not closed:
        return None
    remedy = "sudo usermod -aG audio $USER, then log in anew (a service: SupplementaryGroups=audio)"
    return Finding("permission", f"this user may not open {', '.join(closed)}", remedy)


def _owners(folder: Path) -> Iterator[tuple[int, str]]:
    """The processes that record from ALSA devices, by /proc/asound, and the card of each."""
    for status in sorted(folder.glob("card*/pcm*c/sub*/status")):
        with contextlib.suppress(OSError, ValueError, IndexError):
            yield int(status.read_text().split("owner_pid")[1].split()[1]), status.parent.parent.parent.name


def _holders(folder: Path) -> list[str]:
    """List the programs that record from ALSA devices."""
    found = []
    for pid, card in _owners(folder):
        with contextlib.suppress(OSError):
            found.append(f"{Path(f'/proc/{pid}/comm').read_text().strip()}, process {pid}, holds {card}")
    return found


def _held_by_server(folder: Path) -> Finding | None:
    """Check whether the sound server of another user holds a card."""
    for pid, card in _owners(folder):
        with contextlib.suppress(OSError):
            uid = Path(f"/proc/{pid}").stat().st_uid
            if (server := server_of(pid)) and uid != os.geteuid():
                user = user_name(uid)
                what = f"{server} of user {user} holds {card}"
                remedy = f"run it as {user}: kws-edge service install --user makes a user unit for kws-edge serve"
                return Finding("held", what, remedy)
    return None


def _why_none(folder: Path) -> str:
    """Say what to do if there is no microphone."""
    if held := _holders(folder):
        return "; ".join(held) + ": end it, or let both use the sound server"
    if not list(folder.glob("card*/pcm*c")):
        return (
            "the kernel knows no card that records: plug in a USB microphone, or enable the overlay of the sound HAT "
            "(/boot/firmware/config.txt); in a container, pass the sound server's socket or /dev/snd on"
        )
    return "see that the sound server runs (systemctl --user status pipewire-pulse), and `arecord -l`"
