"""Your own words: their split, checks before anything is computed, and the texts about the model."""

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from firmware_export.c_array import write_c_array
from host_tools.config import DataConfig, StageConfig
from host_tools.convert.card import model_card
from host_tools.data.dataset import Voices, index_clips, index_labelled
from host_tools.data.label_sets import label_set
from host_tools.data.origins import PRIVATE, SPEECH_COMMANDS, SYNTHETIC, origins_of
from host_tools.data.splits import official_split
from host_tools.errors import DatasetError, TrainingError
from host_tools.sampling.examples import load_examples
from kws_edge import Metadata, Model, pack, preset, shipped_models, unpack
from tests.conftest import OF_CLIPS, assert_one_line_error, assert_usage_error

pytestmark = [pytest.mark.host, pytest.mark.timeout(600)]

SPLIT_OF_THE_RECORDINGS = "970e757c7f8bdf7426ea9955d9c61d515f9e600758a84c44a21d6c30d63a05af"
"""SHA-256 of the part of each recording that the shipped models were trained on."""


def lay_out(root, names):
    """Write empty files, because an index reads only names."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def parts_of(root, **options):
    """Part of the split of each recording, by its path below `root`."""
    return {c.path.relative_to(root).as_posix(): c.split for c in index_clips(root, **options).clips}


def test_official_names_keep_the_official_split(data, tmp_path):
    """The split of the shipped models' recordings stays exactly the same, also for a word with few speakers."""
    lines = [f"{name} {part}\n" for name, part in sorted(parts_of(data / "speech_commands").items())]
    assert len(lines) == 13_421
    assert hashlib.sha256("".join(lines).encode()).hexdigest() == SPLIT_OF_THE_RECORDINGS
    with open(data / "logmel" / "manifest.tsv", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    names = {f"{row['word']}/{row['speaker']}_nohash_0.wav": row["split"] for row in rows[::10]}
    assert parts_of(lay_out(tmp_path / "unlisted", names)) == names
    few = {f"cat/{i:08x}_nohash_{k}.flac": official_split(f"{i:08x}") for i in range(3) for k in range(4)}
    assert parts_of(lay_out(tmp_path / "few", few)) == few


def test_own_words_in_a_downloaded_folder_go_by_the_hash(tmp_path):
    """This holds for words that the lists of Speech Commands name, too. Of its own recordings the others train."""
    own = [f"hello/{i}.wav" for i in range(300)] + [f"lamp/s{i}_nohash_0.wav" for i in range(300)]
    own += [f"{word}/person{i}/1.m4a" for word in ("yes", "no") for i in range(300)]  # "no" has no others here
    lay_out(tmp_path, [*own, *(f"yes/{i:08x}_nohash_0.wav" for i in range(300))])
    (tmp_path / "validation_list.txt").write_text("yes/00000001_nohash_0.wav\n")
    (tmp_path / "testing_list.txt").write_text("yes/00000002_nohash_0.wav\nno/00000002_nohash_0.wav\n")
    parts = parts_of(tmp_path)
    assert {name: part for name, part in parts.items() if name in own} == {
        name: official_split(Path(name).parent.name if name[-4:] == ".m4a" else Path(name).name) for name in own
    }
    theirs = [name for name in parts if name[:3] == "yes" and name not in own]
    assert parts["yes/00000001_nohash_0.wav"] == "validation"
    assert [parts[name] for name in theirs].count("training") == 298
    (tmp_path / "validation_list.txt").write_text("yes/00000001_nohash_0.wav\nno/person5/1.m4a\n")  # a list of yours
    assert [name for name, part in parts_of(tmp_path).items() if name[:3] == "no/" and part != "training"] == [
        "no/person5/1.m4a"
    ]


NAMES = {
    "numbers": "{word}/{i}.wav",
    "words": "{word}/{word} {i}.m4a",
    "a speaker": "{word}/me_nohash_{i}.wav",
    "a folder": "{word}/anna/Recording ({i}).flac",
    "two speakers": "{word}/{ab}_nohash_{i}.wav",
    "two folders": "{word}/{ab}/{i}.wav",
    "a speaker with an official id": "{word}/0a7c2a8d_nohash_{i}.wav",
    "accents": "{word}/Aufnahme für {word} {i}.ogg",
}


@pytest.mark.parametrize("many", [2, 3, 10, 50, 400])
@pytest.mark.parametrize("name", NAMES)
def test_own_voice_alone_trains_and_validates(tmp_path, name, many):
    """With one or two voices, recordings are split by the hash of their names. Never are all in one part."""
    names = [
        NAMES[name].format(word=word, i=i, ab=("anna", "bob")[i % 2]) for word in ("hello", "lamp") for i in range(many)
    ]
    index = index_clips(lay_out(tmp_path, names))
    for word in ("hello", "lamp"):
        parts = [c.split for c in index.clips if c.word == word]
        assert len(parts) == many
        assert parts.count("validation") >= 1
        assert parts.count("training") >= many // 2
    if many == 400:
        assert 0.05 < parts.count("validation") / many < 0.15
        assert 0.7 < parts.count("training") / many < 0.9


def test_recordings_stay_in_their_part_when_others_are_added(tmp_path):
    root = lay_out(tmp_path, [f"hello/{i}.wav" for i in range(50)] + [f"lamp/me_nohash_{i}.wav" for i in range(50)])
    before = parts_of(root)
    assert before == parts_of(root)
    lay_out(root, [f"hello/{i}.wav" for i in range(50, 300)] + [f"lamp/me_nohash_{i}.wav" for i in range(50, 300)])
    lay_out(root, [f"other/{i}.wav" for i in range(50)])
    after = parts_of(root)
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize("form", ["hello/{speaker}/{i}.wav", "hello/{speaker}_nohash_{i}.wav"])
def test_several_speakers_are_kept_apart(tmp_path, form):
    """Speakers are told by folder or by name, if nobody has more than a quarter of the recordings."""
    speakers = [f"voice{i}" for i in range(20)]
    names = {form.format(speaker=s, i=i): official_split(s) for s in speakers for i in range(10)}
    assert parts_of(lay_out(tmp_path, names)) == names
    index = index_clips(tmp_path)
    assert {c.speaker for c in index.clips} == {*speakers}
    assert str(Voices.of(index.clips)) == ""
    lay_out(tmp_path, [form.format(speaker="voice0", i=i) for i in range(10, 200)])  # most are of one voice
    index = index_clips(tmp_path)
    assert {c.split for c in index.clips if c.speaker == "voice0"} == {"training", "validation", "testing"}
    assert "expect worse for strangers than measured on hello" in str(Voices.of(index.clips))


def test_folders_within_a_word_are_speakers(tmp_path):
    """Their recordings are used for every purpose of clips, and lists may name them."""
    lay_out(tmp_path, ["hello/anna/1.wav", "hello/anna/2.wav", "hello/bob/1.wav", "lamp/anna/1.wav", "lamp/3.wav"])
    assert [c.speaker for c in index_clips(tmp_path).clips] == ["anna", "anna", "bob", "", "anna"]
    assert len(index_labelled(tmp_path)[0]) == 5
    (tmp_path / "validation_list.txt").write_text("hello/anna/1.wav\nC:\\data\\lamp\\anna\\1.wav\n")
    index = index_clips(tmp_path)
    assert not index.problems
    assert [p for p, part in parts_of(tmp_path).items() if part == "validation"] == [
        "hello/anna/1.wav",
        "lamp/anna/1.wav",
    ]


def test_names_without_nohash_do_not_make_each_file_a_speaker(tmp_path, run_cli):
    lay_out(tmp_path / "own", [f"hello/{i}.wav" for i in range(50)] + [f"lamp/me_nohash_{i}.wav" for i in range(50)])
    done = run_cli("index", "own", package="host_tools")
    (line,) = [line for line in done.stdout.decode().splitlines() if line.startswith("warning: ")]
    assert line.startswith("warning: 1 of the 1 speakers outside training speak in training, too; ")
    assert "clips outside training name no speaker (as hello/anna/1.wav does), so that their voices may train" in line
    assert "expect worse for strangers than measured on hello, lamp" in line
    values = json.loads(run_cli("index", "own", "--json", package="host_tools").stdout)
    assert values["speakers_outside_training"] == {"all": 1, "also_in_training": 1}
    outside = sum(n for part, n in values["words"]["hello"].items() if part != "training")
    assert values["clips_without_speaker_outside_training"] == outside > 5


@pytest.fixture
def nothing_computed(monkeypatch):
    for name in ("clip_features", "recording_features"):
        monkeypatch.setattr(f"host_tools.sampling.reading.{name}", lambda *args, **options: pytest.fail("computed"))


OWN = [f"hello/{i}.wav" for i in range(9)]
LACKING = {
    "one recording": (["hello/1.wav", "_unknown_/1.wav", "_unknown_/2.wav"], {}, "no validation example of 'hello'"),
    "official names, all training": (
        [f"hello/{i}.wav" for i in range(9)] + ["cat/00000001_nohash_0.wav"],
        {"labels": "hello,cat"},
        "no validation example of 'cat'",
    ),
    "listed for testing only": (
        [*OWN, "lamp/1.wav", "lamp/2.wav"],
        {"labels": "hello,lamp", "lists": {"testing": "lamp/1.wav\nlamp/2.wav\n"}},
        "no training example of 'lamp'",
    ),
    "listed without validation": ([*OWN], {"lists": {"testing": "hello/1.wav\n"}}, "no validation example of 'hello'"),
    "random, one recording": (["hello/1.wav", "cat/1.wav"], {"split": "random"}, "no validation example of 'hello'"),
    "no other word": (OWN, {}, "no word besides the keywords to make 'unknown' of, and no --speech: run kws-host syn"),
    "other words in training only": (
        [*OWN, "cat/00000001_nohash_0.wav"],
        {},
        "no validation example of 'unknown' in ",
    ),
    "other words in validation only": (
        [*OWN, "cat/1.wav"],
        {"lists": {"validation": "cat/1.wav\n"}},
        "no word besides the keywords to make 'unknown' of",
    ),
    "no noise": ([*OWN, "cat/1.wav", "cat/2.wav"], {"noise": False}, "no recordings in _background_noise_ to make"),
    "no recording": ([*OWN, "cat/1.wav"], {"labels": "hello,lamp"}, "no recordings of lamp; --labels takes"),
}


@pytest.mark.parametrize("case", LACKING)
def test_what_a_word_lacks_is_said_before_anything_is_computed(tmp_path, nothing_computed, case):
    """The message names the remedy. No feature of any clip has been computed."""
    names, options, complaint = LACKING[case]
    lay_out(tmp_path, names)
    if options.get("noise", True):
        lay_out(tmp_path, ["_background_noise_/room.wav"])
    for part, lines in options.get("lists", {}).items():
        (tmp_path / f"{part}_list.txt").write_text(lines)
    with pytest.raises(DatasetError) as error:
        labels = label_set(options.get("labels", "hello,"))
        data = DataConfig(clips=tmp_path, split=options.get("split", "official"))
        load_examples(data, preset("logmel40"), labels)
    assert complaint in str(error.value)
    assert any(remedy in str(error.value) for remedy in ("add ", "give ", "record ", "words that have a folder"))
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_folders_of_negatives_are_looked_at_before_anything_is_computed(folder, tmp_path, nothing_computed):
    (tmp_path / "empty").mkdir()
    config, labels = preset("logmel40"), label_set("yes,no")
    for sources, complaint in (
        (DataConfig(clips=folder / "clips", speech=tmp_path / "gone"), "gone: no such folder"),
        (DataConfig(clips=folder / "clips", more_noise=(tmp_path / "empty",)), "empty: no recordings in it"),
        (DataConfig(clips=folder / "clips", synthetic=tmp_path / "empty"), "empty: holds neither words nor speech"),
        (DataConfig(clips=folder / "clips", features=tmp_path / "empty"), r"features.npy: no such file"),
        (DataConfig(clips=folder / "clips", also_said=tmp_path / "gone.csv"), "gone.csv"),
    ):
        with pytest.raises(DatasetError, match=complaint):
            load_examples(sources, config, labels)


@pytest.fixture(scope="module")
def own(folder, tmp_path_factory):
    """24 recordings of each of two words by one voice, noise, and synthetic clips of a third word."""
    root = tmp_path_factory.mktemp("own")
    for word, source in (("hello", "yes"), ("lamp", "go")):
        (root / "own" / word).mkdir(parents=True)
        for i, path in enumerate(sorted((folder / "clips" / source).glob("*.wav"))[:24], 1):
            shutil.copy(path, root / "own" / word / f"{i}.wav")
    shutil.copytree(folder / "clips" / "_background_noise_", root / "own" / "_background_noise_")
    for word, source in (("hello", "yes"), ("music", "stop"), ("cup", "up")):
        (root / "synthetic" / "words" / word).mkdir(parents=True)
        for i, path in enumerate(sorted((folder / "clips" / source).glob("*.wav"))):
            shutil.copy(path, root / "synthetic" / "words" / word / f"voice{i}_nohash_0.wav")
    return root


def test_word_that_only_synthetic_speech_trains_is_said(folder, own):
    """Voices that do not train validate this word. Only recordings validate the other words."""
    sources = DataConfig(clips=own / "own", speech=folder / "speech", synthetic=own / "synthetic", cache=own / "cache")
    labels = label_set("hello,lamp,music")
    examples = load_examples(sources, preset("logmel40"), labels)
    assert examples.problems[:2] == [
        "no recorded training clip of music: only synthetic speech trains it",
        "no recorded validation clip of music: synthetic voices that do not train stand in",
    ]
    assert "expect worse for strangers than measured on hello, lamp" in examples.problems[2]
    voices = {c.path.name: c.split for c in index_clips(own / "synthetic" / "words").clips if c.word == "music"}
    counts = examples.summary["validation"]
    assert counts["music"] == list(voices.values()).count("validation") > 0
    assert examples.summary["training"]["music"] == list(voices.values()).count("training")
    recorded = [c.split for c in index_clips(own / "own").clips if c.word == "hello"]
    assert counts["hello"] == recorded.count("validation")
    assert examples.summary["same_voices"] == ("hello", "lamp")
    assert examples.summary["origins"] == [PRIVATE, SYNTHETIC]


def test_origins_are_those_of_the_words_that_train(folder, own, tmp_path):
    sources = DataConfig(clips=folder / "clips", features=folder / "features")
    examples = load_examples(sources, preset("logmel40"), label_set("commands12"))
    assert examples.summary["origins"] == [SPEECH_COMMANDS, PRIVATE]  # the features name speakers of their own
    labels = ("silence", "unknown", "yes")
    assert origins_of({"training": {}}, labels) == [SPEECH_COMMANDS]  # a run of before
    assert origins_of({"training": {}}, (*labels, "hello")) == [PRIVATE]
    assert origins_of({}, labels) == []  # a file from elsewhere


@pytest.fixture(scope="module")
def own_run(folder, own):
    """A run on the user's own words after one epoch of two batches, and its output."""
    pytest.importorskip("tensorflow", exc_type=ImportError, reason="TensorFlow is not installed here")
    command = own_command(folder, own, own / "run")
    done = subprocess.run([sys.executable, "-m", "host_tools", *map(str, command)], capture_output=True, check=True)
    return own / "run", done.stdout.decode()


def own_command(folder, own, run, *options):
    return [
        "train", own / "own", "-o", run, "--labels", "hello,lamp", "--speech", folder / "speech", "--model", "micro",
        "--epochs", "1", "--steps", "2", "--batch-size", "16", "--cache", own / "cache", *options,
    ]  # fmt: skip


@pytest.mark.xdist_group("training")
def test_own_voice_alone_succeeds_by_default(own_run):
    run, said = own_run
    values = json.loads((run / "config.json").read_text())["data"]
    assert all(values[part][word] for part in ("training", "validation") for word in ("hello", "lamp"))
    assert "expect worse for strangers than measured on hello, lamp" in said
    assert "expect worse for strangers" in (run / "problems.txt").read_text()


@pytest.mark.xdist_group("training")
def test_curves_are_drawn_after_one_epoch(own_run):
    assert (own_run[0] / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.xdist_group("training")
def test_model_file_of_own_recordings_claims_nothing(own_run, run_cli, tmp_path):
    """Its card and its C header claim nothing, too. They repeat what the user states. The converter prints nothing."""
    run, _ = own_run
    done = run_cli("quantize", run, "-o", "own.tflite", package="host_tools")
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    metadata = Model(tmp_path / "own.tflite").metadata
    assert metadata.licence == "Trained on private recordings. No licence is stated."
    card = model_card(Model(tmp_path / "own.tflite"), ())
    for text in (json.dumps(metadata.provenance), metadata.description, metadata.licence, card):
        assert "Speech Commands" not in text and "CC BY" not in text and "English" not in text
    assert "training examples of private recordings" in card
    assert "Voices that validated hello, lamp may have trained, too: expect worse for strangers" in card
    assert "INT8 by post-training quantisation" in card
    said = ("--licence", "CC0-1.0. Recorded by Ada.", "--description", "Hears hello, and lamps")
    done = run_cli("quantize", run, "-o", "said.tflite", *said, package="host_tools")
    assert done.returncode == 0, done.stderr
    model = Model(tmp_path / "said.tflite")
    assert (model.metadata.licence, model.metadata.description) == (said[1], said[3])
    card = model_card(model, ())
    assert said[1] in card and said[3] in card and "INT8 by post-training quantisation" in card
    header, source = write_c_array(tmp_path / "said.tflite", tmp_path / "c")
    assert f"Licence of the model: {said[1]}" in header.read_text().splitlines()[0]
    assert source.read_text().splitlines()[0] == header.read_text().splitlines()[0]


def test_licence_by_default():
    """The default licence of a model that Speech Commands alone trained is unchanged."""
    pytest.importorskip("tensorflow", exc_type=ImportError, reason="TensorFlow is not installed here")
    from host_tools.convert.quantize import default_licence

    shipped = {Model(name).metadata.licence for name in OF_CLIPS}
    assert shipped == {default_licence([SPEECH_COMMANDS]), default_licence([SPEECH_COMMANDS, SYNTHETIC])}
    assert default_licence([PRIVATE, SPEECH_COMMANDS]) == (
        "Trained on private recordings, Speech Commands by Pete Warden (CC BY 4.0). No licence is stated."
    )
    assert "Apache" not in default_licence([SYNTHETIC]) and "Speech Commands" not in default_licence([SYNTHETIC])
    assert default_licence([]) == ""


@pytest.mark.xdist_group("training")
def test_licence_names_the_weights_that_training_started_from(folder, own, run_cli, tmp_path):
    metadata = Model("micro12").metadata
    done = run_cli(*own_command(folder, own, "on", "--start", "micro12", "--epochs", "0"), package="host_tools")
    assert done.returncode == 0, done.stderr
    origins = [PRIVATE, f"weights of micro12 ({metadata.licence})"]
    assert json.loads((tmp_path / "on" / "config.json").read_text())["data"]["origins"] == origins
    done = run_cli(*own_command(folder, own, "further", "--start", "on", "--epochs", "0"), package="host_tools")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "further" / "config.json").read_text())["data"]["origins"] == origins


def test_card_of_a_foreign_model_claims_nothing(tmp_path):
    flatbuffer, metadata = unpack(Path(shipped_models()["micro12"]).read_bytes(), "micro12")
    (tmp_path / "foreign.tflite").write_bytes(flatbuffer)
    card = model_card(
        Model(tmp_path / "foreign.tflite", labels=metadata.labels, frontend_config=metadata.frontend_config), ()
    )
    assert "Speech Commands" not in card and "mostly by adults" not in card
    assert "## Licence\n\nNone is stated.\n" in card
    (tmp_path / "bare.tflite").write_bytes(
        pack(flatbuffer, Metadata(labels=metadata.labels, frontend_config=metadata.frontend_config))
    )
    header, _ = write_c_array(tmp_path / "bare.tflite", tmp_path / "c")
    assert "icence" not in header.read_text()


@pytest.mark.xdist_group("training")
def test_run_of_other_options_is_refused(folder, own, own_run, run_cli):
    """The message has each option's name, its old and new value, and the remedy."""
    run, _ = own_run
    before = (run / "config.json").read_bytes()
    failed = run_cli(*own_command(folder, own, run, "--epochs", "60", "--snr-db", "3", "20"), package="host_tools")
    told = ("run holds a run with --epochs 1, not 60; --snr-db 0 40, not 3 20. Repeat", "choose another folder with -o")
    assert_one_line_error(failed, *told, f"(--start {run} goes on from its weights)", program="kws-host")
    assert (run / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("report", "run", "-o", "r", "--clips", "a", "--features", "b"), "give one of them"),
        (("synthesize", "-o", "r", "--minutes", "0", "--per-word", "0"), "leave nothing to make"),
        (("train", "own", "-o", "r", "--blend", "run"), "blend averages"),
        (
            ("train", "own", "-o", "r", "--silence-share", "0.6", "--unknown-share", "0.5"),
            "silence_share and unknown_share",
        ),
    ],
)
def test_options_that_exclude_each_other(own_run, run_cli, tmp_path, options, told):
    """The error is one line, and nothing is begun."""
    (tmp_path / "run").symlink_to(own_run[0])
    (tmp_path / "own").mkdir()
    done = run_cli(*options, package="host_tools")
    assert_usage_error(done, told, program="kws-host")
    assert not (tmp_path / "r").exists()


@pytest.mark.xdist_group("training")
def test_report_takes_a_float_run_and_its_quantisation_aware_one(own, own_run, run_cli):
    failed = run_cli("report", own_run[0], "--qat", own_run[0], "--clips", own / "own", "-o", "r", package="host_tools")
    assert failed.returncode == 1
    assert (
        failed.stderr.decode()
        .splitlines()[-1]
        .endswith(f"is a float run; --qat takes what kws-host qat made of {own_run[0]}")
    )


@pytest.mark.xdist_group("training")
def test_other_backends_convert_or_say_what_to_do(folder, own, own_run, run_cli, tmp_path):
    """TensorFlow converts runs of every backend. A backend that is missing or cannot train gives one line."""

    def run(backend, *arguments):
        return run_cli(*arguments, package="host_tools", env={**os.environ, "KERAS_BACKEND": backend})

    done = run("jax", "quantize", own_run[0], "-o", "own.tflite")
    assert done.returncode == 0, done.stderr
    assert Model(tmp_path / "own.tflite").labels[2:] == ("hello", "lamp")
    remedy = "set KERAS_BACKEND to tensorflow, jax or torch"
    failed = run("nonsense", *own_command(folder, own, "run"))
    assert_one_line_error(failed, "Unable to import backend : nonsense", remedy, program="kws-host")
    (tmp_path / "jax.py").write_text("raise ImportError('No module named jax')")  # hides an installed JAX, too
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(tmp_path)}
    failed = run_cli("train", "--config", own_run[0], "-o", "run", package="host_tools", env=environment)
    assert_one_line_error(failed, "No module named jax", remedy, program="kws-host")


def test_backend_that_cannot_train_is_said(monkeypatch, tmp_path):
    keras = pytest.importorskip("keras", exc_type=ImportError, reason="Keras is not installed here")
    from host_tools.training.loop import train

    (tmp_path / "clips").mkdir()
    monkeypatch.setattr(keras.backend, "backend", lambda: "openvino")
    with pytest.raises(TrainingError, match="backend openvino cannot train; set KERAS_BACKEND to tensorflow, jax"):
        train(StageConfig(data=DataConfig(clips=tmp_path / "clips")), tmp_path / "run")
