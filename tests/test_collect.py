"""Sounds and voices out of packages: real packages, made here, so that no network is needed."""

import shutil
import subprocess

import numpy as np
import pytest
import soundfile

from tests.conftest import assert_one_line_error
from tests.tones import RATE

pytestmark = pytest.mark.skipif(
    not (shutil.which("dpkg-deb") and shutil.which("apt-get") and shutil.which("ffmpeg")),
    reason="collecting from Debian's packages needs apt-get, dpkg-deb and ffmpeg",
)


def tone(seconds, rate=RATE, level=0.3):
    return level * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)


@pytest.fixture
def cache(tmp_path):
    """Packages of two of the table's names."""

    def package(name, sounds):
        root = tmp_path / "root" / name
        (root / "DEBIAN").mkdir(parents=True)
        (root / "DEBIAN" / "control").write_text(
            f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: test <test@example.org>\nDescription: test\n"
        )
        (root / "usr/share/doc" / name).mkdir(parents=True)
        (root / "usr/share/doc" / name / "copyright").write_text("free")
        for path, samples, rate in sounds:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(root / path, samples, rate)
        command = ["dpkg-deb", "--root-owner-group", "-b", root, tmp_path / "cache" / f"{name}_1_all.deb"]
        subprocess.run(command, check=True, capture_output=True)

    (tmp_path / "cache").mkdir()
    bell = np.concatenate([np.zeros(RATE // 2), tone(1.0), np.zeros(RATE // 2)])
    package(
        "sound-icons",
        [
            ("usr/share/sounds/bell.wav", bell, RATE),
            ("usr/share/sounds/same.wav", bell, RATE),
            ("usr/share/sounds/high.wav", np.stack([tone(0.8, 44100)] * 2, axis=1), 44100),
            ("usr/share/sounds/click.wav", tone(0.1), RATE),
            ("usr/share/sounds/hum.wav", tone(1.0, level=0.005), RATE),
        ],
    )
    package(
        "klettres-data",
        [
            ("usr/share/klettres/nl/alpha/a-0.ogg", tone(1.0), RATE),
            ("usr/share/klettres/de/alpha/a-0.ogg", tone(0.7), RATE),
            ("usr/share/klettres/nl/syllab/no.ogg", tone(0.9), RATE),
        ],
    )
    return tmp_path / "cache"


def test_sounds_and_voices(run_cli, cache, tmp_path):
    command = ("collect", "-o", "out", "--cache", cache, "--only", "sound-icons", "klettres-data")
    done = run_cli(*command, package="host_tools")
    assert done.returncode == 0, done.stderr
    found = {p.relative_to(tmp_path / "out").as_posix(): soundfile.info(p) for p in (tmp_path / "out").rglob("*.flac")}
    assert {(i.samplerate, i.channels, i.subtype) for i in found.values()} == {(RATE, 1, "PCM_16")}
    lengths = {path: i.duration for path, i in found.items()}
    # Trimmed; a copy, what is too short or too quiet, and what is named like a command are not there.
    assert lengths == {
        "noise/sound-icons/sound_icons_bell-sound_icons-bell.flac": pytest.approx(1.0, abs=0.01),
        "noise/sound-icons/sound_icons_high-sound_icons-high.flac": pytest.approx(0.8, abs=0.01),
        "speech/klettres-data/klettres_data_nl-klettres_data-klettres_nl_alpha_a_0.flac": pytest.approx(1.0, abs=0.05),
        "speech/klettres-data/klettres_data_de-klettres_data-klettres_de_alpha_a_0.flac": pytest.approx(0.7, abs=0.05),
    }
    assert (tmp_path / "out" / "licences" / "sound-icons.txt").read_text() == "free"
    assert not list((tmp_path / "out").glob(".collect-*"))
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.flac")}
    assert run_cli(*command, package="host_tools").returncode == 0
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.flac")} == before


def test_errors(run_cli, cache, tmp_path):
    failed = run_cli("collect", "-o", "out", "--only", "no-such-package", package="host_tools")
    assert_one_line_error(failed, "not among the packages: no-such-package", program="kws-host")
    (cache / "sound-icons_1_all.deb").write_bytes(b"not a package")
    failed = run_cli("collect", "-o", "out", "--cache", cache, "--only", "sound-icons", package="host_tools")
    assert failed.returncode == 1 and b"Traceback" not in failed.stderr
    assert b"left out: sound-icons: dpkg-deb" in failed.stdout + failed.stderr
    assert failed.stderr.splitlines()[-1].startswith(b"kws-host: no package could be fetched")
