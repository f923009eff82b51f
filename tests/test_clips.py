"""Clips: what the service keeps of what it heard and missed, in the layout that kws-host takes, on a bounded disk."""

import os
import re
import shutil
import stat
import subprocess
import time
from importlib.util import find_spec
from itertools import islice

import numpy as np
import pytest
import soundfile

from kws_edge.errors import ConfigError, WriteError
from kws_edge.service.clips import CHECKED, HIT, NEAR_MISS, WRONG, ClipFolder
from tests.conftest import wait_until
from tests.served import served
from tests.serving import without_time

needs_page = pytest.mark.skipif(find_spec("h11") is None, reason="h11 is not installed here")
SECOND = np.random.default_rng(1).integers(-3000, 3000, 16000).astype(np.int16)
SIZE = 32_044


@pytest.fixture(scope="module")
def kept(tmp_path_factory, demo_stream):
    """The clips of the recording that comes with the program, and what was detected in it."""
    folder = tmp_path_factory.mktemp("kept") / "s"
    sections = 'thresholds = { stop = 0.95 }\n[jsonl]\n[clips]\nfolder = "clips"\nnear = 0.5\n'
    with served(folder, sections, demo_stream, pace=2, repeat=False) as s:
        rows = s.serving.finish(timeout=200)
    assert re.search(r"clips: .*\b0 dropped, 0 failed", s.log)
    return folder / "clips", rows


def files(folder):
    """Finished files, by their paths in the folder."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.parent.name[:5] != ".kws-")
    return sorted(str(path.relative_to(folder)) for path in paths)


def test_each_detection_is_kept_in_the_folder_of_its_word(kept):
    folder, rows = kept
    clips = [clip for clip in ClipFolder(str(folder), most_bytes=10**9) if clip.kind == HIT]
    assert len(clips) > 9
    assert [(c.word, c.heard, c.room, c.score) for c in reversed(clips)] == [
        (row["keyword"], row["keyword"], "kitchen", pytest.approx(row["score"], abs=0.0051)) for row in rows
    ]
    assert {os.path.dirname(os.path.relpath(clip.path, folder)) for clip in clips} == {
        f"words/{row['keyword']}" for row in rows
    }


def test_a_clip_is_the_audio_around_its_detection(kept, demo_stream):
    """1.5 seconds, to the sample, from 1.4 s before the decision."""
    folder, rows = kept
    stream, _ = soundfile.read(demo_stream, dtype="int16")
    clips = [clip for clip in reversed(list(ClipFolder(str(folder), most_bytes=10**9))) if clip.kind == HIT]
    for clip, row in zip(clips, rows, strict=True):
        samples, rate = soundfile.read(clip.path, dtype="int16")
        end = round(16000 * (row["end_s"] + 0.1))
        start = max(0, round(16000 * (row["end_s"] - 1.4)))
        assert rate == 16000
        assert np.array_equal(samples, stream[start:end])


def test_the_middle_of_a_clip_is_taken_for_its_word(kept, model):
    """So the word lies where training looks for it."""
    folder, _ = kept
    clips = [clip for clip in ClipFolder(str(folder), most_bytes=10**9) if clip.kind == HIT]
    right = sum(model.classify(soundfile.read(clip.path, dtype="int16")[0]).label == clip.word for clip in clips)
    assert right >= len(clips) - 1 >= 9


def test_near_misses_lie_apart_and_are_no_beginnings_of_detections(kept):
    """The recording says "stop" twice, and what is asked for "stop" is too much."""
    folder, rows = kept
    near = [clip for clip in ClipFolder(str(folder), most_bytes=10**9) if clip.kind == NEAR_MISS]
    assert [clip.word for clip in near] == ["stop", "stop"]
    assert all("/near-misses/" in clip.path for clip in near)
    assert not [row for row in rows if row["keyword"] == "stop"]


@pytest.mark.host
def test_kws_host_takes_the_folder(kept, run_cli):
    folder, rows = kept
    done = run_cli("evaluate", "commands12", "--clips", folder / "words", package="host_tools")
    assert done.returncode == 0, done.stderr
    assert f"of {len(rows)} clips" in done.stdout.decode()
    done = run_cli("index", folder / "words", package="host_tools")
    assert done.returncode == 0, done.stderr
    assert b"left out" not in done.stdout


def test_nothing_is_kept_unless_asked_for(tmp_path, demo_stream):
    with served(tmp_path / "s", "[jsonl]\n", demo_stream, pace=8, repeat=False) as s:
        assert s.serving.finish(timeout=200)
    assert not [name for name in files(tmp_path / "s") if name.endswith(".wav")]


@needs_page
def test_hits_are_not_written_if_you_switch_them_off_but_what_was_wrong_is(tmp_path, demo_stream):
    sections = '[web]\nport = 0\n[clips]\nfolder = "clips"\nhits = false\nnear_misses = false\n'
    with served(tmp_path / "s", sections, demo_stream) as s, s.events() as events:
        heard = next(values for name, values in events if name == "detection")
        time.sleep(1)
        assert s.ask("POST", "/api/wrong", {"room": "kitchen", "end_s": heard["end_s"]})[0] == 200
        clips = tmp_path / "s" / "clips"
        wait_until(lambda: files(clips), 30)
        (name,) = files(clips)
        assert re.fullmatch(rf"words/_unknown_/\d+T\d+Z-kitchen-{heard['keyword']}-[\d.]+-wrong\.wav", name)
        assert s.ask("POST", "/api/wrong", {"room": "kitchen", "end_s": 1e6})[0] == 200
        wait_until(lambda: "too long ago" in s.log, 30)


def test_only_the_owner_looks_into_a_new_folder(kept):
    assert stat.S_IMODE(kept[0].stat().st_mode) == 0o700


# The folder


def add(clips, word="stop", kind=HIT, time=None):
    return clips.add(SECOND, 16000, room="living room", word=word, score=0.83, kind=kind, time=time)


def test_labels_move_clips(tmp_path):
    clips = ClipFolder(str(tmp_path), most_bytes=10**9)
    hit, near = add(clips), add(clips, kind=NEAR_MISS)
    assert add(clips, kind=WRONG, word="go").endswith("-living_room-go-0.83-wrong.wav")
    name = clips.label(near, "go")
    assert clips.find(name).word == "go"
    assert clips.find(name).kind == CHECKED
    assert not list((tmp_path / "near-misses" / "stop").iterdir())
    assert clips.find(clips.call_wrong(hit)).word == "unknown"
    again = clips.label(clips.label(name, "unknown"), "stop")
    assert os.path.relpath(clips.find(again).path, tmp_path) == f"words/stop/{again}"
    clips.delete(again)
    with pytest.raises(ConfigError, match="there is no clip"):
        clips.find(again)
    assert len(list(clips)) == 2


def test_the_oldest_go_first_and_those_that_somebody_checked_last(tmp_path):
    clips = ClipFolder(str(tmp_path), most_bytes=4 * SIZE + 100)
    times = [f"2026-11-27T10:00:0{i}.000+00:00" for i in range(8)]
    checked = clips.label(add(clips, time=times[0]), "stop")
    names = [add(clips, time=one) for one in times[1:]]
    assert {clip.name for clip in clips} == {checked, *names[-3:]}
    # A clock that was set back makes the new one the oldest. It stays all the same.
    late = add(clips, time="2020-01-01T00:00:00.000+00:00")
    assert late in {clip.name for clip in clips}
    assert len(list(clips)) == 4
    (tmp_path / "words" / "stop" / "mine.wav").write_bytes(bytes(10**6))  # not a clip: neither counted nor removed
    add(clips)
    assert (tmp_path / "words" / "stop" / "mine.wav").exists()


def test_clips_of_one_millisecond_are_all_kept(tmp_path):
    clips = ClipFolder(str(tmp_path), most_bytes=10**9)
    names = [add(clips, time="2026-01-01T00:00:00.999+00:00") for _ in range(3)]
    assert names == sorted(clip.name for clip in clips)
    assert [name[:19] for name in names] == ["20260101T000000999Z", "20260101T000001000Z", "20260101T000001001Z"]


def test_clips_of_a_clock_that_was_ahead_go_first(tmp_path):
    """They would otherwise outlive all others."""
    clips = ClipFolder(str(tmp_path), most_bytes=3 * SIZE + 100)
    ahead = [add(clips, time=f"2093-01-01T00:00:0{i}.000+00:00") for i in range(3)]
    names = [add(clips) for _ in range(2)]
    assert {clip.name for clip in clips} == {ahead[-1], *names}


def test_a_file_in_the_place_of_a_folder_holds_up_its_word_only(tmp_path):
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "stop").write_text("")
    clips = ClipFolder(str(tmp_path), most_bytes=10**9)
    with pytest.raises(ConfigError, match="words/stop: is no folder, so it takes no clips; move it away"):
        add(clips)
    assert [clip.word for clip in clips] == []
    add(clips, word="go")
    assert [clip.word for clip in clips] == ["go"]


@pytest.mark.parametrize("word", ["a/b", "../x", "..", ".hidden", "_silence_", "_unknown_", "a\0b", "火" * 86])
def test_words_that_are_no_folder_are_refused(tmp_path, word):
    clips = ClipFolder(str(tmp_path / "clips"), most_bytes=10**9)
    with pytest.raises(ConfigError, match="no folder can have this name"):
        add(clips, word=word)
    name = add(clips)
    with pytest.raises(ConfigError, match="no folder can have this name"):
        clips.label(name, word)
    assert files(tmp_path) == [f"clips/words/stop/{name}"]


@pytest.mark.parametrize("name", ["", "x", "../../x.wav", "/etc/passwd", "20260101T000000000Z-a-b-0.50-hit.wav", "\0"])
def test_clips_that_are_not_there_are_named(tmp_path, name):
    clips = ClipFolder(str(tmp_path), most_bytes=10**9)
    for work in (clips.find, clips.delete, clips.call_wrong, lambda name: clips.label(name, "stop")):
        with pytest.raises(ConfigError, match="there is no clip"):
            work(name)


def test_names_in_other_scripts_fit_into_a_file_name(tmp_path):
    clips = ClipFolder(str(tmp_path), most_bytes=10**9)
    name = clips.add(SECOND, 16000, room="küche/" + "x" * 99, word="включи свет" * 5, score=1.2, kind=HIT)
    assert len(name.encode()) < 255
    assert clips.find(name).word == "включи свет" * 5
    assert clips.find(name).score == 1.0


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    clips = ClipFolder(str(tmp_path / "file"), most_bytes=10**9)
    with pytest.raises(WriteError, match="file"):
        add(clips)


# Faults


@needs_page
def test_a_full_disk_is_told_and_counted_and_nothing_else_stops(tmp_path, demo_stream):
    """The disk has room for two clips. Detections go on, and when there is room again, so do clips."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", disk]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount, and not everywhere")
    try:
        sections = f'[web]\nport = 0\n[jsonl]\n[clips]\nfolder = "{disk}/clips"\nnear_misses = false\n'
        with served(tmp_path / "s", sections, demo_stream) as s:
            wait_until(lambda: "No space left on device" in s.log, 90)
            whole = files(disk)
            assert whole
            with s.events() as events:  # live values and detections go on
                heard = [values for name, values in islice(events, 150) if name == "detection"]
            assert heard
            assert s.event("outputs")["clips"]["failed"] >= 1
            assert all((disk / name).stat().st_size > 32_000 for name in files(disk) if name.endswith(".wav"))
            assert s.log.count("No space left on device") == 1
            for name in whole:
                (disk / name).unlink()
            wait_until(lambda: len(files(disk)) > 0 and "clips: works again" in s.log, 120)
            s.end()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_kill_leaves_whole_clips_only(tmp_path, demo_stream):
    with served(tmp_path / "s", '[clips]\nfolder = "clips"\n', demo_stream, pace=4) as s:
        clips = tmp_path / "s" / "clips"
        wait_until(lambda: len(files(clips)) > 2, 90)
        s.serving.kill()
    assert all(soundfile.info(clips / name).frames > 16000 for name in files(clips) if "/." not in f"/{name}")


def test_what_clips_cost_does_not_change_detections(kept, tmp_path, demo_stream):
    with served(tmp_path / "s", "thresholds = { stop = 0.95 }\n[jsonl]\n", demo_stream, pace=2, repeat=False) as s:
        assert without_time(s.serving.finish(timeout=200)) == without_time(kept[1])


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", "folder"),
        ("folder = 5", "folder"),
        ('folder = "x"\nmax_mb = 0', "max_mb"),
        ('folder = "x"\nhits = 1', "hits"),
        ('folder = "x"\nnear = 2', "near"),
        ('folder = "serve.toml/x"', "serve.toml"),
    ],
)
def test_wrong_sections_are_named(run_cli, tmp_path, lines, said):
    (tmp_path / "serve.toml").write_text(f'[[source]]\nfile = "x"\n[clips]\n{lines}\n')
    done = run_cli("serve", "--config", "serve.toml", "--check")
    assert done.returncode == 1, done.stderr
    assert said.encode() in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_a_folder_that_somebody_removed_is_made_anew_for_its_owner_only(tmp_path):
    """Whoever removes all recordings at once does not open those of tomorrow to everybody."""
    clips = ClipFolder(str(tmp_path / "clips"), most_bytes=10**6)
    add(clips)
    shutil.rmtree(tmp_path / "clips")
    add(clips)
    assert stat.S_IMODE((tmp_path / "clips").stat().st_mode) == 0o700


def test_clips_that_cannot_be_removed_stay_and_others_go(tmp_path, monkeypatch):
    """The disk stays bounded, and what stands in the way is named."""
    clips = ClipFolder(str(tmp_path), most_bytes=3 * SIZE)
    kept = [clips.find(add(clips, time=f"2020-01-01T00:00:0{i}+00:00")).path for i in range(2)]
    remove = os.unlink

    def protected(path, **options):
        if path in kept:
            raise PermissionError(1, "Operation not permitted")
        remove(path, **options)

    monkeypatch.setattr(os, "unlink", protected)
    for i in range(5):
        last = add(clips, "go", time=f"2021-01-01T00:00:0{i}+00:00")
    assert {clip.path for clip in clips} == {*kept, clips.find(last).path}
    kept.append(clips.find(last).path)
    with pytest.raises(WriteError, match=r"-go-0\.83-hit\.wav: cannot be removed \(Operation not permitted\)"):
        add(clips)
    assert len(list(clips)) == 3
