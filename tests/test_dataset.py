"""Folders of recordings: index, splits, labels, and recordings that cannot be used."""

import csv
import hashlib
import json
import os
import pickle
import re
import shutil
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile

from host_tools.cli import main
from host_tools.config import DataConfig
from host_tools.convert.card import model_card
from host_tools.data.dataset import Voices, index_clips, index_labelled
from host_tools.data.label_sets import label_of, label_set
from host_tools.data.recordings import recordings
from host_tools.data.splits import official_split, random_split
from host_tools.data.stored_features import load_features
from host_tools.errors import DatasetError
from host_tools.evaluation.stream_config import StreamConfig
from host_tools.evaluation.stream_synthesis import make_stream
from host_tools.sampling.examples import load_examples
from kws_edge import Model, preset, shipped_models, unpack
from tests.conftest import assert_one_line_error, train_command
from tests.tones import RATE, WORDS

pytestmark = pytest.mark.host


def test_official_split_of_a_speaker_is_that_of_the_files():
    parts = [official_split(f"{i:08x}") for i in range(1000)]
    assert parts == [which_set(f"yes/{i:08x}_nohash_{i % 3}.wav") for i in range(1000)]
    assert set(parts) == {"training", "validation", "testing"}


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


MANIFEST = "word\tspeaker\tsplit\nyes\ta\ttraining\nno\tb\tvalidation\n"


def npy(header, data=b""):
    """A .npy file with any header."""
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


def shape(text):
    return npy(b"{'descr': '|u1', 'fortran_order': False, 'shape': %s}\n" % text.encode(), bytes(2 * 98 * 40))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "no whole NumPy array"),
        (b"\x93NUMPY", "no whole NumPy array"),
        (b"PK\x03\x04" + bytes(100), "no whole NumPy array"),
        (pickle.dumps(np.zeros(3)), "no whole NumPy array"),
        (shape("(200, 98, 40)"), "no whole NumPy array"),
        (shape("(10000000000000000000, 98, 40)"), "features.npy"),
        (shape("(-2, 98, 40)"), "features.npy"),
        (shape("(True, 98, 40)"), "features.npy"),
        (shape("(2, 40, 98)"), "expected uint8 of shape (n, 98, 40)"),
        (shape("()"), "expected uint8 of shape (n, 98, 40)"),
        (shape("(((("), "no whole NumPy array"),
        (b"\x93NUMPY\x02\x00" + (660 * 2**20).to_bytes(4, "little") + bytes(100), "its header is too large"),
        (shape("(" * 9000), "no whole NumPy array"),
        (shape("__import__('os').abort()"), "no whole NumPy array"),
        (
            npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (2, 98, 40)}\n", pickle.dumps([1] * 7840)),
            "Python objects",
        ),
        (
            npy(b"{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (2, 98, 40)}\n", bytes(7840)),
            "expected uint8",
        ),
    ],
)
def test_features_that_are_not_what_they_say(tmp_path, content, complaint):
    (tmp_path / "manifest.tsv").write_text(MANIFEST)
    (tmp_path / "features.npy").write_bytes(content)
    with pytest.raises(DatasetError) as error:
        load_features(tmp_path, (98, 40))
    assert str(error.value).startswith(f"{tmp_path}/features.npy: ") and complaint in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", ""),
        ("word\tspeaker\nyes\ta\nno\tb\n", "manifest.tsv, line 2: the columns word, speaker and split are expected"),
        (MANIFEST.replace("no\tb\tvalidation", "no\tb"), "manifest.tsv, line 3: the columns"),
        (
            MANIFEST.replace("validation", "dev"),
            "manifest.tsv, line 3: the columns word, speaker and split are expected",
        ),
        (MANIFEST.encode("utf-16"), "manifest.tsv: is no table"),
        (MANIFEST + "x" * 200_000 + "\ta\ttraining\n", "manifest.tsv: is no table"),
        (MANIFEST + MANIFEST.partition("\n")[2], "manifest.tsv has 4 rows, features.npy 2"),
    ],
)
def test_broken_manifest(tmp_path, text, complaint):
    np.save(tmp_path / "features.npy", np.zeros((2, 98, 40), np.uint8))
    (tmp_path / "manifest.tsv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DatasetError) as error:
        load_features(tmp_path, (98, 40))
    assert complaint in str(error.value) and "\n" not in str(error.value)
    (tmp_path / "manifest.tsv").write_bytes(b"\xef\xbb\xbf" + MANIFEST.replace("\n", "\r\n").encode())
    assert load_features(tmp_path, (98, 40)).words.tolist() == ["yes", "no"]


def test_lists_in_the_folder_make_the_official_split(folder, tmp_path):
    for name in ("yes", "no"):
        shutil.copytree(folder / "clips" / name, tmp_path / name)
    names = sorted(f"{p.parent.name}/{p.name}" for p in tmp_path.glob("*/*.wav"))
    (tmp_path / "validation_list.txt").write_text("\n".join(names[:5]))
    (tmp_path / "testing_list.txt").write_text("\n".join(names[5:8]) + "\n")
    parts = {f"{c.word}/{c.path.name}": c.split for c in index_clips(tmp_path).clips}
    listed = {**dict.fromkeys(names[:5], "validation"), **dict.fromkeys(names[5:8], "testing")}
    assert {name: part for name, part in parts.items() if part != "training" and name[:3] == "no/"} == listed
    others = [name for name in names if name[:3] != "no/"]  # a word that no list names
    assert {name: parts[name] for name in others} == {name: which_set(name) for name in others}


def lay_out(root, names):
    """Write empty files, because an index reads only names."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


LISTED = ("hey jarvis/a_nohash_0.wav", "yes/b c_nohash_0.wav", "grün/é_nohash_1.wav")
SPELLINGS = {
    "plain": lambda names, root: "\n".join(names).encode(),
    "CRLF": lambda names, root: "\r\n".join([*names, ""]).encode(),
    "old Mac": lambda names, root: "\r".join(names).encode(),
    "byte order mark": lambda names, root: b"\xef\xbb\xbf" + "\n".join(names).encode(),
    "UTF-16": lambda names, root: "\r\n".join([*names, ""]).encode("utf-16"),
    "UTF-16, big-endian": lambda names, root: b"\xfe\xff" + "\r\n".join([*names, ""]).encode("utf-16-be"),
    "UTF-16 without a mark": lambda names, root: "\n".join(names).encode("utf-16-le"),
    "dot": lambda names, root: "\n".join(f"./{name}" for name in names).encode(),
    "backslash": lambda names, root: "\r\n".join(name.replace("/", "\\") for name in names).encode(),
    "drive": lambda names, root: "\r\n".join("C:\\data\\" + name.replace("/", "\\") for name in names).encode(),
    "absolute": lambda names, root: "\n".join(str(root / name) for name in names).encode(),
    "archive": lambda names, root: "\n".join(f"speech_commands_v0.02/{name}" for name in names).encode(),
    "blanks": lambda names, root: "\n\n".join(f"  {name} \t" for name in names).encode(),
    "decomposed": lambda names, root: unicodedata.normalize("NFD", "\n".join(names)).encode(),
}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_split_lists_are_matched_however_they_are_written(tmp_path, spelling, form):
    others = ["yes/a_nohash_0.wav", "hey jarvis/b c_nohash_0.wav"]
    lay_out(tmp_path, [unicodedata.normalize(form, name) for name in (*LISTED, *others)])
    (tmp_path / "testing_list.txt").write_bytes(SPELLINGS[spelling](LISTED, tmp_path))
    index = index_clips(tmp_path)
    assert not index.problems
    parts = {f"{c.word}/{unicodedata.normalize('NFC', c.path.name)}": c.split for c in index.clips}
    assert parts == {**dict.fromkeys(LISTED, "testing"), **dict.fromkeys(others, "training")}


def test_entries_that_match_no_clip_are_warned_of(tmp_path, run_cli):
    """Clips in both lists are warned of, too. Otherwise test clips could train unnoticed."""
    lay_out(tmp_path, [f"yes/{i}_nohash_0.wav" for i in range(4)])
    (tmp_path / "testing_list.txt").write_text("yes/0_nohash_0.WAV\nyes/1_nohash_0.wav\n2_nohash_0.wav\n")
    (tmp_path / "validation_list.txt").write_bytes(b"yes/1_nohash_0.wav\nyes/\xe9.wav\n")
    index = index_clips(tmp_path)
    assert [c.split for c in index.clips] == ["training", "testing", "training", "training"]
    first, second, third = index.problems
    assert "validation_list.txt: 1 of 2 entries match no clip, the first: 'yes/\\udce9.wav'" in first
    assert "testing_list.txt: 2 of 3 entries match no clip, the first: 'yes/0_nohash_0.WAV'" in second
    assert "1 clips are in both lists and count as testing" in third
    done = run_cli("index", tmp_path, package="host_tools")
    assert done.stdout.decode().count("problem: ") == 3
    for cut in (b"\xff\xfey", b"\xff\xfe\0\xd8", b"y\0e", b"\0", b"\xef\xbb\xbf", b"\xff"):
        (tmp_path / "testing_list.txt").write_bytes(cut)
        assert {c.split for c in index_clips(tmp_path).clips} == {"training", "validation"}
    (tmp_path / "testing_list.txt").unlink()
    (tmp_path / "testing_list.txt").mkdir()
    with pytest.raises(DatasetError, match=r"testing_list\.txt: cannot be read \(Is a directory\)"):
        index_clips(tmp_path)


def which_set(filename):
    """The function from the dataset's README."""
    name = re.sub(r"_nohash_.*$", "", os.path.basename(filename))
    number = int(hashlib.sha1(name.encode()).hexdigest(), 16) % 2**27
    percentage = number * (100.0 / (2**27 - 1))
    return "validation" if percentage < 10 else "testing" if percentage < 20 else "training"


def test_official_split_of_names_without_nohash_is_the_datasets_own(tmp_path):
    names = [
        f"yes/{i}{ending}"
        for i in range(60)
        for ending in (".wav", "_nohash_0.wav", "_nohash_1.flac", ".ogg", " b.wav")
    ]
    lay_out(tmp_path, names)
    clips = index_clips(tmp_path).clips
    assert len(clips) == len(names)
    assert [c.split for c in clips] == [which_set(str(c.path)) for c in clips]
    voices = Voices.of(clips)
    assert voices.others > 5
    assert voices.shared == 0


def test_everything_in_a_dataset_is_used_or_listed(folder, tmp_path, run_cli):
    """Upper-case endings, other formats and folders of speakers are used. Files that systems leave are not listed."""
    root = tmp_path / "odd"
    shutil.copytree(folder / "clips", root)
    names = sorted(path.name for path in (root / "yes").iterdir())
    samples = soundfile.read(root / "yes" / names[0], dtype="int16")[0]
    used = {
        name: root / "yes" / name for name in ("upper.WAV", "a.flac", "b.Ogg", "c.mp3", "d.aiff", "no_ending", "e.pcm")
    }
    for path in used.values():
        format = {"": "WAV", ".pcm": "FLAC"}.get(path.suffix, path.suffix[1:].upper())
        soundfile.write(path, samples, RATE, format=format)
    soundfile.write(root / "yes" / "float.wav", samples / 32768, RATE, subtype="FLOAT")
    soundfile.write(root / "yes" / "48k.wav", np.repeat(samples, 3), 3 * RATE)
    soundfile.write(root / "yes" / "8k.wav", samples[::2], RATE // 2)
    soundfile.write(root / "yes" / "stereo.wav", np.stack([samples, samples], axis=1), RATE)
    for name in ("._yes.wav", ".DS_Store", "Thumbs.db", "README.md", "labels.csv", "empty"):
        (root / "yes" / name).write_bytes(b"\0\5\x16\7" * 50 if name[0] == "." else b"")
    lay_out(root, ["__MACOSX/yes/._a.wav", "LICENSE", ".hidden/a.wav"])
    (root / "_background_noise_" / "kitchen" / "tap").mkdir(parents=True)
    soundfile.write(root / "_background_noise_" / "kitchen" / "tap" / "tap.flac", samples, RATE)
    soundfile.write(root / "_background_noise_" / "upper.WAV", samples, RATE)
    for name in ("_unknown_", "unknown", "_silence_", "_odd_"):
        (root / name).mkdir()
        soundfile.write(root / name / "1.wav", samples, RATE)
    for name in ("anna", "bob"):
        (root / "yes" / name).mkdir()
        for number in (1, 2):
            soundfile.write(root / "yes" / name / f"{number}.wav", samples, RATE)
    soundfile.write(root / "loose.wav", samples, RATE)
    (root / "yes" / "noise.bin").write_bytes(np.random.default_rng(0).bytes(3000))
    (root / "yes" / "yes.zip").write_bytes(b"PK\3\4" + bytes(100))
    (root / "yes" / "gone.wav").symlink_to("nowhere")
    (root / "yes" / "linked").symlink_to(root / "no")
    os.mkfifo(root / "yes" / "fifo.wav")

    values = json.loads(run_cli("index", root, "--check", "--json", package="host_tools").stdout)
    assert sum(values["words"]["yes"].values()) == len(names) + len(used) + 4 + 4
    assert sum(values["words"]["_unknown_"].values()) == 2
    assert set(values["words"]) == {*WORDS, "_unknown_"}
    assert values["_background_noise_"] == 4
    assert values["problems"] == []
    expected = {
        "yes/fifo.wav": "no regular file",
        "yes/gone.wav": "a broken link",
        "yes/linked": "a link to a folder, which is not followed",
        "yes/noise.bin": "of no format, not audio",
        "yes/yes.zip": "a ZIP archive, not audio",
        "_odd_": "recordings in a folder that is no word: its name begins with _",
        "loose.wav": "a recording in no word's folder",
    }
    assert sorted(values["left_out"]) == sorted(f"{root / name}: {why}" for name, why in expected.items())
    done = run_cli("index", root, package="host_tools")
    assert done.stdout.decode().count("left out: ") == len(expected)
    assert f"kws-host: {len(expected)} files left out".encode() in done.stderr
    found = recordings(root)
    assert len(found.paths) == values["files"] + 2  # two more, in folders that are no words
    assert {one.path.name for one in found.left_out} == {"fifo.wav", "gone.wav", "linked", "noise.bin", "yes.zip"}


def test_words_and_recordings_that_are_there_twice_are_said(tmp_path):
    """A folder of another spelling trains as an unknown word. A copy in another format may be in another part."""
    names = [
        "yes/a_nohash_0.wav",
        "yes/a_nohash_0.flac",
        "yes/a_nohash_1.wav",
        "Yes/a_nohash_0.wav",
        "no/a_nohash_0.wav",
    ]
    lay_out(tmp_path, names)
    assert index_clips(tmp_path).problems == [
        "the words Yes, yes differ by capitals alone",
        f"1 recordings are there in more than one format, and each counts, the first: "
        f"{tmp_path}/yes/a_nohash_0.flac and a_nohash_0.wav",
    ]


def test_recordings_beside_the_folders_of_labels_are_listed(tmp_path):
    lay_out(tmp_path, ["yes/a.wav", "b.wav", "c.flac", "labels.txt"])
    pairs, left_out = index_labelled(tmp_path)
    assert len(pairs) == 1
    assert list(map(str, left_out)) == [f"{tmp_path}/b.wav: a recording in no word's folder (2 files)"]


def test_names_of_words_command_no_terminal(tmp_path, run_cli):
    lay_out(tmp_path, ["yes\x1b[2J/a.wav"])
    done = run_cli("index", tmp_path, package="host_tools")
    assert done.returncode == 0
    assert b"\x1b" not in done.stdout
    assert b"yes\\x1b[2J" in done.stdout


def test_unicode_forms_of_folders_and_labels_agree(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "grün") for form in ("NFC", "NFD"))
    lay_out(tmp_path, [f"{composed}/a.wav", f"{decomposed}/b.wav"])
    assert {c.word for c in index_clips(tmp_path).clips} == {composed}
    assert {label for _, label in index_labelled(tmp_path)[0]} == {composed}
    assert label_set(f"yes,{decomposed}") == ("silence", "unknown", "yes", composed)
    for labels in (("yes", composed), ("yes", decomposed)):
        assert label_of(composed, labels) == label_of(decomposed, labels) == 1


def test_unknown_words_in_a_folder_of_their_own_train_and_silence_is_noise(folder, tmp_path, run_cli):
    pytest.importorskip("tensorflow", exc_type=ImportError, reason="TensorFlow is not installed here")
    from host_tools.config import MixConfig
    from host_tools.sampling.batches import Batches
    from kws_edge import preset

    for name, source in (("yes", "yes"), ("_unknown_", "cat"), ("_silence_", "_background_noise_")):
        shutil.copytree(folder / "clips" / source, tmp_path / name)
    labels = ("silence", "unknown", "yes")
    examples = load_examples(DataConfig(clips=tmp_path), preset("logmel40"), labels)
    assert examples.summary["training"] == {"unknown": 20, "yes": 20}
    assert examples.summary["left_out"] == 0
    assert examples.noise
    batches = Batches(examples, MixConfig(), batch_size=30, seed=0)
    _, truth, _ = batches.draw(30, np.random.default_rng(0), even=True)
    assert (truth == 1).sum() == 10


def test_names_that_are_no_text(folder, tmp_path, run_cli):
    """Names of clips, of their folder and of outputs may be no text. Below, such a clip trains, too."""
    root = tmp_path / "d\udce9"
    (root / "yes").mkdir(parents=True)
    for i, path in enumerate(sorted((folder / "clips" / "yes").glob("*.wav"))):
        shutil.copy(path, root / "yes" / f"{i}\udce9.wav")
    (root / "yes" / "bad\udce9.wav").write_text("no audio, but some text of a few words")
    done = run_cli("index", root, "--check", package="host_tools", env={**os.environ, "PYTHONIOENCODING": "utf-8"})
    assert done.returncode == 0, done.stderr
    assert b"/yes/bad" in done.stdout
    clips = index_clips(root, split="random").clips
    make_stream(tmp_path / "s\udce9.flac", StreamConfig(clips=2), clips[:3])
    assert recordings(tmp_path, "training").paths
    done = run_cli("detect", "s\udce9.flac", "--plot", "p\udce9.png")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "p\udce9.png").exists()


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
    assert Voices.of(index_clips(folder / "clips").clips) == (6, 0, 0, ())
    voices = Voices.of(index_clips(folder / "clips", split="random").clips)
    assert voices.shared == voices.others == 26
    assert (
        b"warning: 26 of the 26 speakers"
        in run_cli("index", folder / "clips", "--split", "random", package="host_tools").stdout
    )
    with pytest.raises(DatasetError, match="unknown split 'kfold'"):
        index_clips(folder / "clips", split="kfold")


def test_label_sets():
    for name in ("commands12", "words36"):
        assert label_set(name) == Model(name).labels
    assert label_set("hello, lamp") == ("silence", "unknown", "hello", "lamp")
    assert label_set("marvin") == label_set("marvin,") == ("silence", "unknown", "marvin")
    assert label_set("commands13,") == ("silence", "unknown", "commands13")
    for spec, problem in (
        ("words7", "words7"),
        ("commands13", r"unknown label set 'commands13'; known are .*such as 'commands13,'"),
        ("silence", "implied"),
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
    """The dataset with every kind of bad file among one word's training clips, and an empty folder of a word."""
    root = tmp_path / "spoiled"
    shutil.copytree(folder / "clips", root)
    good = sorted((root / "yes").glob("*.wav"))[0]
    samples = soundfile.read(good, dtype="int16")[0]
    speaker = next(c.speaker for c in index_clips(root).clips if c.split == "training")

    def path(kind):
        return root / "yes" / f"{speaker}_nohash_{kind}.wav"

    path("cut").write_bytes(good.read_bytes()[:9000])
    path("text\udce9").write_text("this is no audio\n" * 50)
    path("zerobytes").write_bytes(b"")
    soundfile.write(path("empty"), samples[:0], RATE)
    (root / "hollow").mkdir()
    return root


BAD = {
    "cut": "cut short: 8956 of 32000 bytes of audio are there",
    "text\\udce9": "is a text, not audio",  # the form of messages on any terminal
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
        assert done.stdout.count(b"note: ") == len(BAD) + 1
        assert f"{len(BAD)} files left out; run/problems.txt lists them" in done.stderr.decode()
    values = json.loads((tmp_path / "run" / "config.json").read_text())
    assert values["data"]["left_out"] == len(BAD)
    assert values["data"]["training"]["yes"] == 25  # 20 clips, 5 precomputed features
    done = run_cli("evaluate", "commands12", "--clips", spoiled, "--json", package="host_tools")
    (result,) = json.loads(done.stdout)["results"]
    assert len(result["skipped"]) == len(BAD)
    assert result["clips"] == len(WORDS) * 26


def test_own_words(folder, run_cli, tmp_path):
    """Two folders of the user's own recordings have any names and no speaker ids. Other speech is given."""
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
    assert b"note: 16 clips outside training name no speaker" in done.stdout
    assert json.loads((tmp_path / "run" / "config.json").read_text())["labels"] == [
        "silence",
        "unknown",
        "hello",
        "lamp",
    ]


def test_one_word(folder, run_cli, tmp_path):
    """A single wake word is trained, written to a model file, and evaluated."""
    pytest.importorskip("tensorflow", exc_type=ImportError, reason="TensorFlow is not installed here")
    command = train_command(folder, "run", "--labels", "yes", "--epochs", "1", "--steps", "2", "--model", "micro")
    assert run_cli(*command, package="host_tools").returncode == 0
    labels = ["silence", "unknown", "yes"]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["labels"] == labels
    done = run_cli("quantize", "run", "-o", "yes.tflite", "--samples", "20", package="host_tools")
    assert done.returncode == 0, done.stderr
    assert Model(tmp_path / "yes.tflite").labels == tuple(labels)
    done = run_cli("evaluate", "yes.tflite", "--clips", folder / "test", "--json", package="host_tools")
    assert json.loads(done.stdout)["results"][0]["labels"] == labels


def test_word_without_recordings_is_said_at_once(folder, monkeypatch):
    """The error comes before the features of all other words are computed."""
    monkeypatch.setattr("host_tools.sampling.reading.clip_features", lambda *args, **options: pytest.fail("computed"))
    with pytest.raises(DatasetError, match=r"clips: no recordings of yess; --labels takes a label set \(commands12"):
        load_examples(DataConfig(clips=folder / "clips"), preset("logmel40"), label_set("yess"))


def test_evaluate_one_output(folder, run_cli, tmp_path):
    """A network with one output, as converters of wake words write it. Its other answer is ``unknown``."""
    keras = pytest.importorskip("keras", exc_type=ImportError, reason="Keras is not installed here")
    tensorflow = pytest.importorskip("tensorflow", exc_type=ImportError, reason="TensorFlow is not installed here")
    config = preset("logmel40")
    shape = (*config.feature_shape, 1)
    layers = keras.layers
    loud = layers.Dense(1, "sigmoid", kernel_initializer=keras.initializers.Constant(1), bias_initializer="zeros")
    network = keras.Sequential(
        [keras.Input(shape), layers.GlobalMaxPooling2D(), layers.Rescaling(0.05, -10), loud]  # 200 is a half
    )
    converter = tensorflow.lite.TFLiteConverter.from_keras_model(network)
    converter.optimizations = [tensorflow.lite.Optimize.DEFAULT]
    rng = np.random.default_rng(0)
    converter.representative_dataset = lambda: (
        [rng.uniform(config.level_min, rng.uniform(60, 255), (1, *shape)).astype(np.float32)] for _ in range(30)
    )
    converter.target_spec.supported_ops = [tensorflow.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tensorflow.int8
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Statistics for quantized inputs", UserWarning)
        (tmp_path / "loud.tflite").write_bytes(converter.convert())
    model = Model(tmp_path / "loud.tflite", labels=("yes",), frontend_config=config)
    assert model.output.shape == (1, 1)
    foreign = ("--labels", "labels.txt", "--frontend", "logmel40")
    (tmp_path / "labels.txt").write_text("yes\n")
    done = run_cli("evaluate", "loud.tflite", "--clips", folder / "test", *foreign, "--json", package="host_tools")
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)["results"]
    assert result["labels"] == ["yes", "unknown"]
    confusion = np.array(result["confusion"])
    assert confusion.sum(axis=1).tolist() == [8, 12 * 8]
    clips = [soundfile.read(path, dtype="int16")[0] for path in folder.glob("test/*/*.wav")]
    heard = [clip for clip in clips if model.classify(clip).score >= 0.5]
    assert 0 < len(heard) < 13 * 8
    assert confusion[:, 0].sum() == len(heard)


def test_evaluate_takes_a_foreign_model(folder, run_cli, tmp_path):
    flatbuffer, metadata = unpack(Path(shipped_models()["micro12"]).read_bytes(), "micro12")
    (tmp_path / "foreign.tflite").write_bytes(flatbuffer)
    (tmp_path / "labels.txt").write_text("\n".join(f"_{x}_" if x in "silence unknown" else x for x in metadata.labels))
    foreign = ("--labels", "labels.txt", "--frontend", "logmel40")
    command = ("evaluate", "--clips", folder / "test", "--json")
    own, other = (
        json.loads(run_cli(*command, *options, package="host_tools").stdout)["results"][0]
        for options in (("micro12",), ("foreign.tflite", *foreign))
    )
    assert other["confusion"] == own["confusion"]
    failed = run_cli(*command, "foreign.tflite", package="host_tools")
    assert_one_line_error(failed, "--labels and --frontend", program="kws-host")
    done = run_cli("card", "foreign.tflite", *foreign, "-o", "card.md", package="host_tools")
    assert done.returncode == 0, done.stderr
    assert "yes" in (tmp_path / "card.md").read_text()


def test_cards_are_readable_tables(tmp_path):
    """Values are written for people, not as Python or JSON. No value breaks a table."""
    model = Model("micro12")
    model.metadata.provenance["training"]["snr_db"] = [0.0, 40.0]
    model.metadata.provenance["training"]["start"] = "a|b"
    recall = dict.fromkeys(model.labels, 0.5)
    results = [
        {"data": f"somewhere/{data}", "clips": 3000, "accuracy": 0.5, "interval_95": [0.4, 0.6], "recall": heard}
        for data, heard in (("first", recall), ("second", {"yes": 0.25}))
    ]
    card = model_card(model, [{"results": results}])
    for line in (
        "| learning_rate | 0.004 |",
        "| snr_db | 0.0, 40.0 |",
        "| start | a\\|b |",
        "| calibration | examples 200,",
    ):
        assert line in card
    assert "| best | epoch 19, val_loss 0.23459, val_accuracy 0.94979 |" in card
    assert "| recall of | first | second |\n|---|---|---|\n| silence | 50.0% |  |" in card
    assert "\n| yes | 50.0% | 25.0% |\n" in card
    for text in (card, *(Path(path).with_suffix(".md").read_text() for path in shipped_models().values())):
        assert "| setting | value |" in text
        assert not re.search(r"[{}\[\]]", text)


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--evaluation", "[]"),
        ("--evaluation", '{"results": [{"data": "x"}]}'),
        (
            "--evaluation",
            '{"results": [{"data": 1, "clips": "x", "accuracy": 1, "interval_95": [0, 1], "recall": {}}]}',
        ),
        ("--evaluation", "[" * 100_000),
        ("--arena", "{}"),
        ("--arena", '{"total": "many"}'),
        ("--report", '{"clips": 3}'),
        ("--report", "not JSON"),
        ("--report", None),
    ],
)
def test_card_of_files_that_are_not_what_they_should_be(tmp_path, monkeypatch, option, text):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / "some.json").write_text(text)
    with pytest.raises(DatasetError, match=r"^some\.json: no card can be made of it") as error:
        main(["card", "micro12", "-o", "card.md", option, "some.json"])
    assert "\n" not in str(error.value)
    assert not (tmp_path / "card.md").exists()
