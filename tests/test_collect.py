"""Sounds and voices from packages and repositories. Real ones are made here, so no network is needed."""

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import zipfile

import numpy as np
import pytest
import soundfile

from host_tools.data.collect import collect
from host_tools.data.source_selection import is_wanted
from host_tools.data.source_tables import load_table
from host_tools.errors import DatasetError
from tests.conftest import assert_one_line_error
from tests.tones import RATE

pytestmark = pytest.mark.host

needs_debian = pytest.mark.skipif(
    not (shutil.which("dpkg-deb") and shutil.which("apt-get") and shutil.which("ffmpeg")),
    reason="collecting from Debian's packages needs apt-get, dpkg-deb and ffmpeg",
)
needs_git = pytest.mark.skipif(
    not (shutil.which("git") and shutil.which("ffmpeg")), reason="collecting from repositories needs git and ffmpeg"
)


def tone(seconds, rate=RATE, level=0.3):
    return level * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)


@pytest.fixture
def cache(tmp_path):
    """Packages with two of the table's names."""

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


@needs_debian
def test_sounds_and_voices(run_cli, cache, tmp_path):
    command = ("collect", "-o", "out", "--cache", cache, "--only", "sound-icons", "klettres-data")
    done = run_cli(*command, package="host_tools")
    assert done.returncode == 0, done.stderr
    found = {p.relative_to(tmp_path / "out").as_posix(): soundfile.info(p) for p in (tmp_path / "out").rglob("*.flac")}
    assert {(i.samplerate, i.channels, i.subtype) for i in found.values()} == {(RATE, 1, "PCM_16")}
    lengths = {path: i.duration for path, i in found.items()}
    # Sounds are trimmed. A copy, short or quiet sounds, and sounds named like a command are left out.
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


@needs_debian
def test_errors(run_cli, cache, tmp_path):
    failed = run_cli("collect", "-o", "out", "--only", "no-such-package", package="host_tools")
    assert_one_line_error(failed, "not among the packages: no-such-package", program="kws-host")
    (cache / "sound-icons_1_all.deb").write_bytes(b"not a package")
    failed = run_cli("collect", "-o", "out", "--cache", cache, "--only", "sound-icons", package="host_tools")
    assert failed.returncode == 1 and b"Traceback" not in failed.stderr
    assert b"left out: sound-icons: dpkg-deb" in failed.stdout + failed.stderr
    assert failed.stderr.splitlines()[-1].startswith(b"kws-host: no package could be fetched")


def write_package(folder, name, members):
    """Write a .deb of members (name, kind, content or target of a link), as no tool would write it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path, kind, content in members:
            info = tarfile.TarInfo(path)
            info.type = kind
            if kind == tarfile.REGTYPE:
                info.size = len(content)
            else:
                info.linkname = content
            tar.addfile(info, io.BytesIO(content) if kind == tarfile.REGTYPE else None)
    control = io.BytesIO()
    with tarfile.open(fileobj=control, mode="w:gz") as tar:
        text = f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: test <t@example.org>\nDescription: t\n"
        info = tarfile.TarInfo("./control")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text.encode()))
    data = b"!<arch>\n"
    parts = {"debian-binary": b"2.0\n", "control.tar.gz": control.getvalue(), "data.tar": packed.getvalue()}
    for part, content in parts.items():
        data += f"{part:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        data += content + b"\n" * (len(content) % 2)
    (folder / f"{name}_1_all.deb").write_bytes(data)


def sound(seconds=1.0, kind="WAV"):
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(seconds), RATE, format=kind)
    return buffer.getvalue()


def zipped(*members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


PLACE = "./usr/share/games/x"
HOSTILE = {  # members of a package that also holds a sound, and what is said of it; OUT is a folder outside
    "file through a link": (
        [("link", tarfile.SYMTYPE, "OUT"), ("link/a.wav", tarfile.REGTYPE, sound())],
        "goes through the link",
    ),
    "file in place of a link": (
        [("a.wav", tarfile.SYMTYPE, "OUT/a.wav"), ("a.wav", tarfile.REGTYPE, sound())],
        "goes through the link",
    ),
    "archive's file through a link": (
        [("link", tarfile.SYMTYPE, "OUT"), ("a.pk3", tarfile.REGTYPE, zipped(("link/a.wav", sound())))],
        "a.pk3: the member",
    ),
    "archive's file in place of a link": (
        [("a.wav", tarfile.SYMTYPE, "OUT/a.wav"), ("a.pk3", tarfile.REGTYPE, zipped(("a.wav", sound())))],
        "goes through the link",
    ),
    "archive's file in place of a hard link": (
        [("a.wav", tarfile.LNKTYPE, "OUT/a.wav"), ("a.pk3", tarfile.REGTYPE, zipped(("a.wav", sound())))],
        "goes through the link",
    ),
    "archive's file above": ([("a.pk3", tarfile.REGTYPE, zipped(("../../../../../../a.wav", sound())))], "leads out"),
    "archive's file anywhere": ([("a.pk3", tarfile.REGTYPE, zipped(("OUT/a.wav", sound())))], "leads out"),
    "carved sound in place of a link": (
        [("a_000.wav", tarfile.SYMTYPE, "OUT/a.wav"), ("a.rcc", tarfile.REGTYPE, b"head" + sound())],
        "goes through the link",
    ),
    "file above": ([("../../../../../a.wav", tarfile.REGTYPE, sound())], "leads out"),
    "file anywhere": ([("OUT/a.wav", tarfile.REGTYPE, sound())], "leads out"),
    "a file twice": ([("b.wav", tarfile.REGTYPE, sound()), ("b.wav", tarfile.REGTYPE, sound())], "a broken archive"),
    "no archive": ([("a.pk3", tarfile.REGTYPE, b"PK nothing")], "a.pk3: a broken archive"),
    "half an archive": ([("a.wz", tarfile.REGTYPE, zipped(("a.wav", sound()))[:-30])], "a.wz: a broken archive"),
    "a damaged archive": (
        [("a.wz", tarfile.REGTYPE, zipped(("a.wav", sound())).replace(b"\x00\x00", b"\xff\x00", 40))],
        "a.wz: ",
    ),
    "archive bomb": (
        [("a.pk3", tarfile.REGTYPE, zipped(*((f"{i}.wav", bytes(2**22)) for i in range(6))))],
        "more than 16,777,216 bytes",
    ),
    "too large": ([(f"{i}.bin", tarfile.REGTYPE, bytes(2**22)) for i in range(6)], "more than 16,777,216 bytes"),
}


@needs_debian
@pytest.mark.parametrize("kind", HOSTILE)
def test_members_that_go_through_links(kind, tmp_path, monkeypatch):
    """Nothing outside is written or changed. The package is left out, and a line says why."""
    monkeypatch.setattr("host_tools.data.source_files._LARGEST", 2**24)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.wav").write_bytes(b"the user's")
    (tmp_path / "cache").mkdir()
    members, reason = HOSTILE[kind]
    made = [(f"{PLACE}/bell.wav", tarfile.REGTYPE, sound())]
    for path, type_, content in members:
        path = path.replace("OUT", str(outside))
        if isinstance(content, str):
            content = content.replace("OUT", str(outside))
        elif b"OUT" in content:
            content = zipped((f"{outside}/a.wav", sound()))
        made.append((path if path.startswith("/") else f"{PLACE}/{path}", type_, content))
    write_package(tmp_path / "cache", "sound-icons", made)
    write_package(tmp_path / "cache", "gnome-audio", [(f"{PLACE}/bell.wav", tarfile.REGTYPE, sound())])
    before = {p: p.lstat().st_mtime_ns for p in tmp_path.rglob("*")}
    lines = []
    only = ("sound-icons", "gnome-audio")
    collect(tmp_path / "out", load_table("debian"), cache=tmp_path / "cache", only=only, say=lines.append)
    (line,) = lines
    assert line.startswith("left out: sound-icons: ") and reason in line and "\n" not in line
    ours = (tmp_path / "out", tmp_path / "cache")
    after = {p: p.lstat().st_mtime_ns for p in tmp_path.rglob("*") if not any(p.is_relative_to(o) for o in ours)}
    assert after == {path: time for path, time in before.items() if path in after}
    assert (outside / "a.wav").read_bytes() == b"the user's"
    assert [p.parent.name for p in (tmp_path / "out" / "noise").rglob("*.flac")] == ["gnome-audio"]
    assert sorted(p.name for p in (tmp_path / "cache" / "unpacked").iterdir()) == ["gnome-audio"]


@needs_debian
def test_links_and_cut_sounds(tmp_path):
    """Links in packages are left out. Of a cut Ogg file, the complete pages are taken."""
    secret = tmp_path / "secret.wav"
    secret.write_bytes(sound(2.0))
    (tmp_path / "cache").mkdir()
    ogg = sound(20.0, "OGG")
    inside = ogg[: ogg.rindex(b"OggS") + 20]  # in the last page's header
    members = [
        ("bell.wav", tarfile.REGTYPE, sound(1.0)),
        ("linked.wav", tarfile.SYMTYPE, str(secret)),
        ("hard.wav", tarfile.LNKTYPE, f"{PLACE}/bell.wav"),
        ("null.wav", tarfile.CHRTYPE, ""),
        ("pipe.wav", tarfile.FIFOTYPE, ""),
        ("cut.rcc", tarfile.REGTYPE, b"head" + sound(0.7) + b"..." + inside),
        ("header.cat", tarfile.REGTYPE, ogg[:20]),
        ("page.cat", tarfile.REGTYPE, ogg[:40]),
        ("empty.cat", tarfile.REGTYPE, b""),
    ]
    write_package(
        tmp_path / "cache", "sound-icons", [(f"{PLACE}/{path}", kind, content) for path, kind, content in members]
    )
    lines = []
    table = load_table("debian")
    collect(tmp_path / "out", table, cache=tmp_path / "cache", only=("sound-icons",), say=lines.append)
    assert not lines
    lengths = {p.name: soundfile.info(p).duration for p in (tmp_path / "out" / "noise").rglob("*.flac")}
    assert {name.rpartition("x_")[2]: length for name, length in lengths.items()} == {
        "bell.flac": pytest.approx(1.0, abs=0.01),
        "cut_000.flac": pytest.approx(0.7, abs=0.01),
        "cut_001.flac": pytest.approx(15, abs=4.9),
    }


@needs_debian
def test_a_limit_leaves_some_of_everything(tmp_path, monkeypatch):
    (tmp_path / "cache").mkdir()
    sounds = [(f"{PLACE}/s{chr(97 + i)}.wav", tarfile.REGTYPE, sound(1 + 0.01 * i)) for i in range(20)]
    write_package(tmp_path / "cache", "many", sounds)
    entry = '[[package]]\nname = "many"\nkind = "noise"\nlicence = "CC0"\n'
    (tmp_path / "mine.toml").write_text(f'about = "Mine."\nkeywords = []\n{entry}minutes = 0.1\n')
    table = load_table(str(tmp_path / "mine.toml"))
    collect(tmp_path / "out", table, cache=tmp_path / "cache", say=print)
    kept = sorted(path.stem[-1] for path in (tmp_path / "out" / "noise" / "many").iterdir())
    steps = np.diff([ord(letter) for letter in kept])
    assert len(kept) == 5 and set(steps) <= {3, 4}  # 6 of 22 seconds
    monkeypatch.setattr("host_tools.data.source_sounds._LONGEST_S", 20.0)
    lines = []
    with pytest.raises(DatasetError, match="no package could be fetched"):
        collect(tmp_path / "other", table, cache=tmp_path / "cache", say=lines.append)
    assert lines == ["left out: many: holds more than 0.00555556 hours of sound"]


def write_packages(folder, **more):
    """Write a table of a package with subtitles in another package, and both packages."""
    (folder / "cache").mkdir()
    script = """dialogId("x-m-ano", "small", "Yes")
dialogStr("Né, \\"nechci\\".")
dialogId("x-v-auto", "small", "A car")
dialogStr("Auto jede.")
"""
    names = ("x-m-ano", "x-v-auto", "x-v-sto", "left-auto")
    sounds = [(f"{PLACE}/{name}.wav", tarfile.REGTYPE, sound(0.5 + 0.1 * i)) for i, name in enumerate(names)]
    write_package(folder / "cache", "game-cs", sounds)
    said = (f"{PLACE}/script/dialogs_cs.lua", tarfile.REGTYPE, script.encode())
    write_package(folder / "cache", "game", [said, (f"{PLACE}/bell.wav", tarfile.REGTYPE, sound())])
    lines = {
        "name": "game-cs", "kind": "speech", "licence": "GPL-2+", "subtitles.package": "game",
        "subtitles.file": "dialogs_cs.lua", "speaker": "/[^/-]+-([^/-]+)-[^/]*$", **more,
    }  # fmt: skip
    text = 'about = "Mine."\nkeywords = ["left"]\n[[package]]\nsubtitles.words = ["né", "stop"]\n'
    (folder / "mine.toml").write_text(text + "".join(f"{key} = '{value}'\n" for key, value in lines.items()))
    return load_table(str(folder / "mine.toml"))


@needs_debian
def test_what_says_a_keyword_by_its_subtitles_is_left_out(tmp_path):
    table, lines = write_packages(tmp_path), []
    collect(tmp_path / "out", table, cache=tmp_path / "cache", say=lines.append)
    assert not lines
    made = {path.name.rpartition("_x_")[2] for path in (tmp_path / "out" / "speech" / "game-cs").iterdir()}
    assert made == {"v_auto.flac", "v_sto.flac"}


@needs_debian
def test_without_subtitles_nothing_is_taken(tmp_path):
    """Otherwise keywords would count as other words."""
    table, lines = write_packages(tmp_path, **{"subtitles.file": "dialogs_nl.lua"}), []
    with pytest.raises(DatasetError, match="no package could be fetched"):
        collect(tmp_path / "out", table, cache=tmp_path / "cache", say=lines.append)
    assert lines == ["left out: game-cs: dialogs_nl.lua of game says none of né, stop"]
    assert not list((tmp_path / "out").rglob("*.flac"))


@needs_debian
@pytest.mark.parametrize("right", [True, False])
def test_package_with_a_checksum(tmp_path, right):
    write_packages(tmp_path)
    (file,) = (tmp_path / "cache").glob("game-cs_*.deb")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    with open(tmp_path / "mine.toml", "a") as text:
        text.write(f'sha256 = "{digest if right else 64 * "0"}"\n')
    table, lines = load_table(str(tmp_path / "mine.toml")), []
    if right:
        collect(tmp_path / "out", table, cache=tmp_path / "cache", say=lines.append)
        assert len(list((tmp_path / "out").rglob("*.flac"))) == 2 and not lines
    else:
        with pytest.raises(DatasetError, match="no package could be fetched"):
            collect(tmp_path / "out", table, cache=tmp_path / "cache", say=lines.append)
        (line,) = lines
        assert line.startswith(f"left out: game-cs: the SHA-256 of {file} is {digest}, not 000")


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A table of two repositories, which git finds here instead of on GitHub, and two without their commits."""

    (tmp_path / "gitconfig").write_text(
        f'[url "file://{tmp_path}/github/"]\n\tinsteadOf = https://github.com/\n'
        "[user]\n\tname = test\n\temail = test@example.org\n"
        "[uploadpack]\n\tallowFilter = true\n\tallowAnySHA1InWant = true\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))

    def git(*args, cwd):
        return subprocess.run(["git", *args], cwd=cwd, check=True, capture_output=True, text=True).stdout.strip()

    def commit(name, files):
        folder = tmp_path / "github" / name
        if not folder.is_dir():
            folder.mkdir(parents=True)
            git("init", "-q", cwd=folder)
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str):
                (folder / path).write_text(content)
            else:
                soundfile.write(folder / path, content, RATE)
        git("add", "-A", cwd=folder)
        git("commit", "-q", "-m", "sounds", cwd=folder)
        return git("rev-parse", "HEAD", cwd=folder)

    noise = {f"sounds/drip [{i}].wav": tone(0.2 + 0.01 * i) for i in range(60)}
    noise |= {"sounds/rain.ogg": tone(2.0), "sounds/crowd.ogg": tone(2.1), "sounds/five.wav": tone(5.0)}
    noise |= {"sounds/broken.wav": "not a sound", "src/main.c": "int main;", "LICENSE": "as you like"}
    sounds = commit("someone/sounds", noise)
    commit("someone/sounds", {"sounds/later.wav": tone(3.0)})
    says = ("who/ann/apple.wav", "who/ann/know.wav", "who/ann/turnLeft.wav", "who/bob/leftover.wav", "music/x.wav")
    words = commit("someone/words", {path: tone(0.5 + 0.05 * i) for i, path in enumerate(says)})
    return write_table(
        tmp_path,
        ("someone/sounds", sounds, "noise", "home", 'leave = ["*/crowd.*"]\nwhy = "People."\nattribution = "them"'),
        ("someone/words", words, "speech", "words", "take = ['/who/*']\nspeaker = 'who/(\\w+)/'"),
        ("someone/gone", "0" * 40, "noise", "other", ""),
        ("someone/sounds", "1" * 40, "noise", "other", ""),
    )


def write_table(folder, *entries):
    """A table of repositories, each with its commit, kind, group and further lines."""
    text = 'about = "Mine."\nkeywords = ["left", "know"]\njoin = true\nwithout_s = 5\n'
    for name, commit, kind, group, more in entries:
        text += f'[[repository]]\nname = "{name}"\ncommit = "{commit}"\nkind = "{kind}"\ngroup = "{group}"\n'
        text += f'licence = "free"\n{more}\n'
    (folder / "table.toml").write_text(text)
    return load_table(str(folder / "table.toml"))


@needs_git
def test_repositories(table, tmp_path):
    lines = []
    out = tmp_path / "out"
    (out / "noise" / "home").mkdir(parents=True)
    (out / "noise" / "home" / "mine.txt").write_text("the user's")
    minutes = collect(out, table, say=lines.append)
    speech = {p.relative_to(out).as_posix(): soundfile.info(p).duration for p in (out / "speech").rglob("*.flac")}
    # Words named after a keyword or its homophone, and files that the table leaves out, are missing.
    assert speech == {
        "speech/words/someone+words/someone_words_ann-someone_words-who_ann_apple.flac": pytest.approx(0.5, abs=0.01),
        "speech/words/someone+words/someone_words_bob-someone_words-who_bob_leftover.flac": pytest.approx(
            0.65, abs=0.01
        ),
    }
    noise = {p.name: soundfile.info(p) for p in (out / "noise").rglob("*.flac")}
    assert {(i.samplerate, i.channels, i.subtype) for i in noise.values()} == {(RATE, 1, "PCM_16")}
    # 60 sounds of 29.7 s in all, and as many pauses; neither the later commit, nor what is as long as ESC-50's.
    rain = noise.pop("someone_sounds_rain-someone_sounds-rain.flac")
    assert rain.duration == pytest.approx(2.0, abs=0.05)
    assert sorted(noise) == [f"someone_sounds_joined_{i}-someone_sounds-short.flac" for i in range(len(noise))]
    assert all(20 <= noise[name].duration < 22 for name in sorted(noise)[:-1])
    total = sum(i.duration for i in noise.values())
    assert 29.7 + 60 * 0.1 < total < 29.7 + 60 * 0.7 and total == pytest.approx(29.7 + 60 * 0.4, abs=6)
    assert minutes == {
        "noise": pytest.approx((total + rain.duration) / 60),
        "speech": pytest.approx(1.15 / 60, abs=1e-3),
    }
    # Only the wanted files of the commit and its licence came here.
    kept = {p.name for p in (out / "repositories").rglob("*") if p.is_file()}
    assert {"drip [0].wav", "rain.ogg", "LICENSE"} <= kept and not {"crowd.ogg", "main.c", "later.wav"} & kept
    licence = (out / "licences" / "someone+sounds.txt").read_text()
    assert licence.startswith(f"https://github.com/someone/sounds, commit {table.sources[0].commit}: free; them\n")
    assert licence.endswith("==== LICENSE ====\nas you like")
    # Lines name the sources that cannot be fetched, and why.
    assert [line.split(": ")[:3] for line in lines] == [
        ["left out", "someone/gone", "git fetch"],
        ["left out", "someone/sounds", "git fetch"],
    ]
    assert (out / "noise" / "home" / "mine.txt").read_text() == "the user's"
    assert not list(out.glob(".collect-*")) and not list((out / "repositories").glob(".clone-*"))

    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}
    collect(out, table, say=lines.append)
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()} == before
    # Another folder gets the same from the clones alone.
    shutil.rmtree(tmp_path / "github")
    again = tmp_path / "again"
    collect(again, table, cache=out / "repositories", say=lines.append)
    for path in (out / "noise").rglob("*.flac"):
        assert (again / path.relative_to(out)).read_bytes() == path.read_bytes()


@needs_git
def test_repository_errors(run_cli, tmp_path):
    command = ("collect", "--from", "repositories", "-o", "out", "--only")
    failed = run_cli(*command, "klettres-data", package="host_tools")
    assert_one_line_error(failed, "not among the repositories: klettres-data", program="kws-host")
    config = tmp_path / "gitconfig"
    config.write_text(f'[url "file://{tmp_path}/nowhere/"]\n\tinsteadOf = https://github.com/\n')
    here = {**os.environ, "GIT_CONFIG_GLOBAL": str(config)}
    failed = run_cli(*command, "librosa/data", package="host_tools", env=here)
    assert failed.returncode == 1 and b"Traceback" not in failed.stderr
    assert b"left out: librosa/data: git fetch" in failed.stdout + failed.stderr
    assert failed.stderr.splitlines()[-1].startswith(b"kws-host: no repository could be fetched")
    assert not list((tmp_path / "out").rglob("*.flac"))


@needs_git
def test_links_of_a_repository(tmp_path, monkeypatch):
    """Links among the sounds and in place of a licence are neither followed nor made."""
    config = tmp_path / "gitconfig"
    config.write_text(
        f'[url "file://{tmp_path}/github/"]\n\tinsteadOf = https://github.com/\n'
        "[user]\n\tname = test\n\temail = test@example.org\n"
        "[uploadpack]\n\tallowFilter = true\n\tallowAnySHA1InWant = true\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    folder = tmp_path / "github" / "someone" / "linked"
    folder.mkdir(parents=True)
    (tmp_path / "secret.wav").write_bytes(sound(2.0))
    (tmp_path / "secret").write_text("password")
    (folder / "bell.wav").write_bytes(sound(1.2))
    (folder / "linked.wav").symlink_to(tmp_path / "secret.wav")
    (folder / "LICENSE").symlink_to(tmp_path / "secret")
    (folder / "sub").symlink_to(tmp_path)
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "x"]):
        subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True)
    table = write_table(tmp_path, ("someone/linked", commit.stdout.strip(), "noise", "home", ""))
    collect(tmp_path / "out", table, say=lambda line: None)
    (made,) = (tmp_path / "out" / "noise").rglob("*.flac")
    assert soundfile.info(made).duration == pytest.approx(1.2, abs=0.01)
    assert "password" not in (tmp_path / "out" / "licences" / "someone+linked.txt").read_text()
    assert not any(p.is_symlink() for p in (tmp_path / "out").rglob("*"))


def test_recordings_to_test_on_are_left_out():
    """Recordings of ESC-10 are left out, because false accepts are measured on them."""
    by_name = {source.name: source for source in load_table("repositories").sources}
    clonk, clock = by_name["openclonk/openclonk"], by_name["RedundantC/wis_part1"]
    assert not is_wanted("planet/Sound.ocg/Fire.ocg/Fire.ogg", clonk)
    assert is_wanted("planet/Sound.ocg/Environment.ocg/Waterfall.ogg", clonk)
    assert not is_wanted("mods/sounds/sounds/sounds_clock_tick.ogg", clock)
    assert is_wanted("mods/sounds/sounds/sounds_canary_01.ogg", clock)
