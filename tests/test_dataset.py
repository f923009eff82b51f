"""Folders of recordings: index, splits, labels, and recordings that cannot be used."""

import csv
import json
import shutil

import numpy as np
import pytest
import soundfile

from host_tools.dataset import (
    index_clips,
    index_labelled,
    label_of,
    label_set,
    load_features,
    official_split,
    random_split,
    recordings,
    shared_speakers,
)
from host_tools.errors import DatasetError
from tests.conftest import train_command
from tests.tones import RATE, WORDS

pytestmark = pytest.mark.host


def test_official_split():
    """Against the lists that come with the dataset's own part of validation clips, where it is here."""
    parts = [official_split(f"{i:08x}") for i in range(4000)]
    assert 0.08 < parts.count("validation") / 4000 < 0.12
    assert 0.08 < parts.count("testing") / 4000 < 0.12


def test_official_split_is_the_datasets_own(data):
    listed = (data / "speech_commands" / "validation_list.txt").read_text().split()
    clips = index_clips(data / "speech_commands").clips
    ours = {f"{c.word}/{c.path.name}" for c in clips if c.split == "validation"}
    assert ours == set(listed)
    assert len(clips) == 11_648 + 1_773
    with open(data / "logmel" / "manifest.tsv", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert all(official_split(row["speaker"]) == row["split"] for row in rows)


def test_index(folder, tmp_path):
    index = index_clips(folder / "clips")
    clips = index.clips
    assert len(clips) == len(WORDS) * 26
    assert {c.split for c in clips} == {"training", "validation"}
    assert clips == sorted(clips, key=lambda c: c.path)
    assert index.background == [folder / "clips" / "_background_noise_" / "noise.wav"]
    assert not index.left_out
    assert not index.problems
    with pytest.raises(DatasetError, match="no such folder"):
        index_clips(tmp_path / "missing")
    with pytest.raises(DatasetError, match="no clips"):
        index_clips(tmp_path)
    assert {label for _, label in index_labelled(folder / "test")[0]} == {*WORDS[:10], "unknown"}


def test_recordings_are_halved_by_speaker(data):
    halves = ("training", "reporting")
    parts = {half: recordings(data / "negatives" / "speech", half).paths for half in halves}
    assert sorted(parts["training"] + parts["reporting"]) == recordings(data / "negatives" / "speech").paths
    speakers = {half: {path.stem.split("-")[0] for path in paths} for half, paths in parts.items()}
    assert not speakers["training"] & speakers["reporting"]
    assert 0.35 < len(speakers["training"]) / 261 < 0.65
    origin = {half: {p.stem[:-2] for p in recordings(data / "negatives" / "noise", half).paths} for half in halves}
    assert not origin["training"] & origin["reporting"]


def test_labels():
    assert label_of("_silence_", ("silence", "unknown", "yes")) == 0
    assert label_of("bed", ("silence", "unknown", "yes")) == 1
    with pytest.raises(DatasetError, match="'bed'"):
        label_of("bed", ("yes", "no"))


def test_features_are_checked(folder, tmp_path):
    stored = load_features(folder / "features", (98, 40))
    assert len(stored.levels) == len(WORDS) * 6
    with pytest.raises(DatasetError, match=r"expected uint8 of shape \(n, 128, 64\)"):
        load_features(folder / "features", (128, 64))
    with pytest.raises(DatasetError, match=r"features\.npy"):
        load_features(tmp_path, (98, 40))
    np.save(tmp_path / "features.npy", stored.levels[:3])
    (tmp_path / "manifest.tsv").write_text("word\tspeaker\tsplit\nyes\ta\ttraining\n")
    with pytest.raises(DatasetError, match=r"1 rows, features\.npy 3"):
        load_features(tmp_path, (98, 40))


def test_lists_in_the_folder_make_the_official_split(folder, tmp_path):
    for name in ("yes", "no"):
        shutil.copytree(folder / "clips" / name, tmp_path / name)
    names = sorted(f"{p.parent.name}/{p.name}" for p in tmp_path.glob("*/*.wav"))
    (tmp_path / "validation_list.txt").write_text("\n".join(names[:5]))
    (tmp_path / "testing_list.txt").write_text("\n".join(names[5:8]) + "\n")
    parts = [c.split for c in index_clips(tmp_path).clips]
    assert parts == ["validation"] * 5 + ["testing"] * 3 + ["training"] * (len(names) - 8)


def test_random_split():
    words = ["a"] * 200 + ["b"] * 40 + ["c"]
    parts = np.array(random_split(words, seed=1))
    for word, n in (("a", 200), ("b", 40)):
        mine = parts[np.array(words) == word]
        counts = [(mine == part).sum() for part in ("training", "validation", "testing")]
        assert counts == [0.7 * n, 0.15 * n, 0.15 * n]
    assert list(parts) == random_split(words, seed=1)
    assert list(parts) != random_split(words, seed=2)


def test_random_split_leaks_speakers_and_says_so(folder, run_cli):
    assert shared_speakers(index_clips(folder / "clips").clips)[0] == 0
    shared, others = shared_speakers(index_clips(folder / "clips", split="random").clips)
    assert shared == others == 26
    assert (
        b"warning: 26 of the 26 speakers"
        in run_cli("index", folder / "clips", "--split", "random", package="host_tools").stdout
    )
    with pytest.raises(DatasetError, match="unknown split 'kfold'"):
        index_clips(folder / "clips", split="kfold")


def test_label_sets():
    assert len(label_set("commands12")) == 12
    words36 = label_set("words36")
    assert len(set(words36)) == 36
    assert words36[0] == "silence"
    assert label_set("hello, lamp") == ("silence", "unknown", "hello", "lamp")
    for spec, problem in (
        ("words7", "words7"),
        ("yes,yes", "each word once"),
        ("unknown,yes", "implied"),
        (",", "','"),
    ):
        with pytest.raises(DatasetError, match=problem):
            label_set(spec)


def test_index_command(folder, run_cli):
    values = json.loads(run_cli("index", folder / "clips", "--json", package="host_tools").stdout)
    assert values["clips"] == len(WORDS) * 26
    assert (values["classes"], values["files"]) == (len(WORDS) + 1, len(WORDS) * 26 + 1)
    assert values["words"]["yes"] == {"training": 20, "validation": 6}
    text = run_cli("index", folder / "clips", package="host_tools").stdout.decode()
    assert f"{len(WORDS) + 1} classes, {len(WORDS) * 26 + 1} files" in text


@pytest.fixture
def spoiled(folder, tmp_path):
    """The dataset with a bad file of every kind among the training clips of one word, and an empty word folder."""
    root = tmp_path / "spoiled"
    shutil.copytree(folder / "clips", root)
    good = sorted((root / "yes").glob("*.wav"))[0]
    samples = soundfile.read(good, dtype="int16")[0]
    speaker = next(c.speaker for c in index_clips(root).clips if c.split == "training")

    def path(kind):
        return root / "yes" / f"{speaker}_nohash_{kind}.wav"

    path("cut").write_bytes(good.read_bytes()[:9000])
    path("text").write_text("this is no audio\n" * 50)
    path("zerobytes").write_bytes(b"")
    soundfile.write(path("empty"), samples[:0], RATE)
    (root / "hollow").mkdir()
    return root


BAD = {
    "cut": "cut short: 8956 of 32000 bytes of audio are there",
    "text": "is a text, not audio",
    "zerobytes": "is empty",
    "empty": "holds no samples",
}


def test_bad_recordings_are_listed(spoiled, run_cli):
    values = json.loads(run_cli("index", spoiled, "--check", "--json", package="host_tools").stdout)
    assert len(values["problems"]) == len(BAD) + 1
    assert values["problems"][0].endswith("hollow: no recording in this folder")
    for kind, why in BAD.items():
        (line,) = [line for line in values["problems"] if f"nohash_{kind}.wav" in line]
        assert why in line


def test_training_and_evaluation_leave_bad_recordings_out(folder, spoiled, run_cli, tmp_path):
    pytest.importorskip("tensorflow", exc_type=ImportError, reason="TensorFlow is not installed here")
    command = train_command(folder, "run", "--epochs", "1", "--steps", "2")
    command[1] = spoiled
    for _ in range(2):  # the second time from the cache
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        done = run_cli(*command, package="host_tools")
        assert done.returncode == 0, done.stderr
        lines = (tmp_path / "run" / "problems.txt").read_text().splitlines()
        assert len(lines) == len(BAD) + 1
        assert all(any(f"_{kind}.wav: {why}" in line for line in lines) for kind, why in BAD.items())
        assert done.stdout.decode().count("note: ") == len(BAD) + 1
        assert f"{len(BAD)} files left out; run/problems.txt lists them" in done.stderr.decode()
    values = json.loads((tmp_path / "run" / "config.json").read_text())
    assert values["data"]["left_out"] == len(BAD)
    assert values["data"]["training"]["yes"] == 25  # 20 clips, 5 precomputed features
    done = run_cli("evaluate", "commands12", "--clips", spoiled, "--json", package="host_tools")
    (result,) = json.loads(done.stdout)["results"]
    assert len(result["skipped"]) == len(BAD)
    assert result["clips"] == len(WORDS) * 26


def test_own_words(folder, run_cli, tmp_path):
    """Two folders of the user's own recordings, any names, no speaker ids; speech is what else is heard."""
    pytest.importorskip("tensorflow", exc_type=ImportError, reason="TensorFlow is not installed here")
    for name, source in (("hello", "yes"), ("lamp", "go")):
        (tmp_path / "own" / name).mkdir(parents=True)
        for i, path in enumerate(sorted((folder / "clips" / source).glob("*.wav"))):
            shutil.copy(path, tmp_path / "own" / name / f"{name} {i}.wav")
    shutil.copytree(folder / "clips" / "_background_noise_", tmp_path / "own" / "_background_noise_")
    command = ["train", "own", "-o", "run", "--labels", "hello,lamp", "--speech", folder / "speech", "--model", "micro"]
    command += ["--epochs", "1", "--steps", "2", "--batch-size", "16", "--split", "random", "--cache", "cache"]
    done = run_cli(*command, package="host_tools")
    assert done.returncode == 0, done.stderr
    assert b"the random split leaks speakers: " not in done.stdout  # every recording counts as a speaker of its own
    assert json.loads((tmp_path / "run" / "config.json").read_text())["labels"] == [
        "silence",
        "unknown",
        "hello",
        "lamp",
    ]
