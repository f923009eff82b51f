import contextlib
import hashlib
import io
import json
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kws_edge import ConfigError, DetectorConfig, Metadata, Model, ModelError, pack, preset, shipped_models, unpack
from kws_edge.model.tflite import FlatModel
from tests.configurations import detectors, front_ends
from tests.conftest import assert_one_line_error, peak_mb


@pytest.fixture(scope="module")
def shipped() -> bytes:
    return Path(shipped_models()["commands12"]).read_bytes()


@pytest.fixture
def file(tmp_path):
    def write(data: bytes, name: str = "model.tflite"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def test_round_trip(shipped):
    flatbuffer, metadata = unpack(shipped, "shipped")
    assert metadata.labels[:3] == ("silence", "unknown", "yes")
    assert metadata.frontend_config == preset("logmel40")
    again = pack(flatbuffer, metadata)
    assert again == shipped
    assert unpack(again, "again") == (flatbuffer, metadata)


def test_is_a_zip_for_zip_tools(shipped):
    with zipfile.ZipFile(io.BytesIO(shipped)) as archive:
        assert archive.testzip() is None
        assert archive.read("labels.txt").decode().split()[2] == "yes"


def test_plain_tflite_tools_read_it(shipped):
    """In each runtime that is here, the whole file with metadata gives the same as the bare flatbuffer."""
    flatbuffer, _ = unpack(shipped, "shipped")
    from kws_edge.model.interpreter import Interpreter
    from kws_edge.model.runtime import installed

    values = np.random.default_rng(0).integers(-128, 128, (1, 98, 40, 1)).astype(np.int8)
    expected = Interpreter(FlatModel(flatbuffer, "bare"), kernels="builtin").invoke(values)
    for runtime in set(installed()) - {"tensorflow"}:
        got = Interpreter(FlatModel(shipped, "whole"), runtime=runtime, kernels="builtin").invoke(values)
        assert np.array_equal(got, expected), runtime


def test_input_is_pinned_by_the_front_end(model):
    assert (model.input.scale, model.input.zero_point, model.input.dtype) == (1.0, -128, "int8")


def test_operators_are_those_of_small_devices(model):
    assert set(model.flat.operators) <= {"ADD", "CONV_2D", "FULLY_CONNECTED", "MEAN", "RESHAPE", "SOFTMAX"}
    assert model.flat.macs == 11_760_768
    assert model.size <= 1_300_000


def test_web_page(file):
    page = b"\n<!DOCTYPE html>\n<html><body>404</body></html>"
    with pytest.raises(ModelError, match=r"model\.tflite: is a web page"):
        Model(file(page))


@pytest.mark.parametrize("data", [b"", b"RIFF1234WAVEfmt ", bytes(100), b"TFL3"])
def test_not_a_model(file, data):
    with pytest.raises(ModelError, match=r"is empty|not a TFLite model"):
        Model(file(data))


def test_truncated_anywhere(file, shipped):
    """Every cut file is refused. None reaches a runtime, which might crash."""
    flatbuffer, _ = unpack(shipped, "shipped")
    cuts = [1, 7, 8, 20, 100, *np.linspace(200, len(shipped) - 1, 60).astype(int), len(flatbuffer) + 1]
    for cut in cuts:
        with pytest.raises(ModelError) as caught:
            Model(file(shipped[:cut]))
        assert any(word in str(caught.value) for word in ("truncated", "cut short", "not a TFLite")), (
            cut,
            caught.value,
        )


def test_corrupt_weights(file, shipped):
    damaged = bytearray(shipped)
    damaged[200_000] ^= 0xFF
    with pytest.raises(ModelError, match="does not match the checksum"):
        Model(file(bytes(damaged)))


def test_fuzzed_structure_is_refused_or_read(shipped):
    """Flipped bytes in the flatbuffer's tables end in ModelError at worst, never in another exception or a hang."""
    flatbuffer, _ = unpack(shipped, "shipped")
    rng = np.random.default_rng(1)
    for _ in range(300):
        damaged = bytearray(flatbuffer)
        for at in (*rng.integers(0, 400, 3), *rng.integers(len(flatbuffer) - 20000, len(flatbuffer), 20)):
            damaged[at] = rng.integers(256)
        with contextlib.suppress(ModelError):
            _ = FlatModel(bytes(damaged), "fuzzed").operators


def test_metadata_must_match_the_tensors(file, shipped):
    flatbuffer, good = unpack(shipped, "shipped")
    import dataclasses

    for change, message in (
        ({"labels": good.labels[:-1]}, "12 outputs, but 11 labels"),
        ({"frontend_config": preset("reference")}, r"input of shape \[1, 98, 40, 1\].*128 frames of 64 mels"),
        ({"detector_config": DetectorConfig(thresholds={"maybe": 0.5})}, "maybe"),
        ({"detector_config": DetectorConfig(wake_word="marvin")}, "marvin"),
    ):
        with pytest.raises(ModelError, match=message):
            Model(file(pack(flatbuffer, dataclasses.replace(good, **change))))


def test_metadata_must_hold_together(file, shipped):
    flatbuffer, good = unpack(shipped, "shipped")
    text = pack(flatbuffer, good)[len(flatbuffer) :]
    with zipfile.ZipFile(io.BytesIO(text)) as archive:
        json_text = archive.read("kws_edge.json").decode()
    for old, new, message in (
        ('"format": 1', '"format": 9', "format 9"),
        ('"n_mels": 40', '"n_mels": -4', "n_mels"),
        ('"front_end"', '"frontend"', "lacks 'front_end'"),
        ('"threshold"', '"treshold"', "treshold"),
    ):
        assert old in json_text
        out = io.BytesIO()
        out.write(flatbuffer)
        with zipfile.ZipFile(out, "a") as archive:
            archive.writestr("kws_edge.json", json_text.replace(old, new))
        with pytest.raises(ModelError, match=message):
            Model(file(out.getvalue()))


BIG, INF, NAN = 10**400, float("inf"), float("nan")
HOSTILE = {
    "front_end": {
        "n_mels": [10**9, BIG, True, [40]], "n_fft": [10**7, 10**9], "hop_ms": [-10, 1e-12, INF, BIG],
        "clip_ms": [INF, 1e9], "frame_ms": [NAN, "30"], "sample_rate": [10**9, BIG], "log_gain": [INF, 0],
        "log_offset": [1e-320, -1], "f_max_hz": [1e-300], "resize_frames": [10**9, 0], "spectrum": [5, ["power"]],
        "level_max": [1e300],
    },
    "detector": {
        "step_ms": [0, 1e-9, 1e12, INF], "smoothing_ms": [1e10, INF, BIG], "refractory_ms": [INF, 1e300],
        "threshold": [NAN, 1e-320], "thresholds": [{"yes": BIG}, [1], {"\x1b": 0.5}], "armed_s": [1e308],
        "hysteresis": [NAN], "keywords": [5, True, ["yes", "yes"], [["yes"]], []], "wake_word": [5, "\x1b[2J"],
        "speech_margin": [-1],
    },
    "": {
        "name": [{"a": 1}, None], "description": [5], "licence": [[1]], "provenance": ["x", None], "metrics": [[1], 5],
        "labels": [["a"] * 12, [], [f"\ud800{i}" for i in range(12)], ["\x1b]0;t\x07", *"abcdefghijk"], "yes", 5],
        "front_end": ["x", None, []], "detector": [None, 5],
    },
}  # fmt: skip


def packed(text: str | bytes, flatbuffer: bytes) -> bytes:
    """A model file with the metadata `text`, whether valid or not."""
    out = io.BytesIO()
    out.write(flatbuffer)
    with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED) as made:
        made.writestr("kws_edge.json", text)
    return out.getvalue()


@pytest.fixture(scope="module")
def values(shipped) -> dict:
    """The values of the shipped model's metadata."""
    with zipfile.ZipFile(io.BytesIO(shipped)) as archive:
        return json.loads(archive.read("kws_edge.json"))


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        pytest.param(part, key, value, id=f"{key}_{i}")
        for part, fields in HOSTILE.items()
        for key, tried in fields.items()
        for i, value in enumerate(tried)
    ],
)
def test_every_field_of_metadata_is_checked(shipped, values, part, key, value):
    flatbuffer = unpack(shipped, "shipped")[0]
    changed = {**values[part], key: value} if part else value
    text = json.dumps({**values, part or key: changed})
    started = time.process_time()
    with pytest.raises(ModelError, match=r"hostile: its metadata (is damaged|does not hold together)") as caught:
        unpack(packed(text, flatbuffer), "hostile")
    assert time.process_time() - started < 1
    line = str(caught.value)
    assert len(line) < 400
    assert line.isprintable()
    if value not in (INF, -INF) and value == value:
        assert key.replace("_", "").rstrip("s") in line.lower().replace("_", "")


def test_other_metadata_that_is_no_metadata(shipped, values):
    flatbuffer = unpack(shipped, "shipped")[0]
    for text, part in {
        "[" * 200_000 + "]" * 200_000: "nested",
        '{"format": 1, "provenance": ' + '{"a":' * 900 + "1" + "}" * 901: "nested",
        '{"format": 1, "format": 1}': "'format' occurs twice",
        json.dumps({**values, "metrics": {"x": NAN}}): "NaN",
        json.dumps(values)[:-1] + ', "x": 1e999}': "1e999",
        b"\xff\xfe\xfd": "decode",
        "[]": "format",
        json.dumps({**values, "format": "\x1b[2J"}): r"format '\\x1b",
        json.dumps({**values, "metrics": {"miss_curve": [[0.5, BIG], [0.6, 1]]}}): "miss_curve must be",
        json.dumps({**values, "metrics": {"miss_curve": "abc"}}): "miss_curve",
        json.dumps({**values, "metrics": {"miss_curve": [[0.5, 0.1]]}}): "miss_curve",
    }.items():
        with pytest.raises(ModelError, match=part) as caught:
            unpack(packed(text, flatbuffer), "hostile")
        assert len(str(caught.value)) < 400


def test_a_bomb_does_not_go_off(shipped, tmp_path):
    """A gigabyte of blanks, and 7 GB packed in 6.9 MB, are refused at their first megabyte."""
    flatbuffer = unpack(shipped, "shipped")[0]
    (tmp_path / "a.tflite").write_bytes(packed(b" " * 2**28, flatbuffer))
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = squeeze.compress(bytes(2**20)) + squeeze.flush(zlib.Z_FULL_FLUSH)
    block = squeeze.compress(bytes(2**20)) + squeeze.flush(zlib.Z_FULL_FLUSH)
    bomb = block * (6_900_000 // len(block))
    name = b"kws_edge.json"
    local = struct.pack("<4sHHHHHLLLHH", b"PK\3\4", 20, 0, 8, 0, 33, 0, len(bomb), 0, len(name), 0) + name
    entry = struct.pack(
        "<4sHHHHHHLLLHHHHHLL",
        b"PK\1\2",
        20,
        20,
        0,
        8,
        0,
        33,
        0,
        len(bomb),
        0,
        len(name),
        0,
        0,
        0,
        0,
        0,
        len(flatbuffer),
    )
    at = len(flatbuffer) + len(local) + len(bomb)
    end = struct.pack("<4sHHHHLLH", b"PK\5\6", 0, 0, 1, 1, len(entry) + len(name), at, 0)
    (tmp_path / "b.tflite").write_bytes(flatbuffer + local + bomb + entry + name + end)
    for file in ("a.tflite", "b.tflite"):
        script = (
            "import sys, time\nfrom kws_edge import KwsError, Model\nstarted = time.process_time()\n"
            "try: Model(sys.argv[1])\nexcept KwsError as error: assert 'more than 1,048,576' in str(error), error\n"
            "else: raise SystemExit('taken')\nassert time.process_time() - started < 1"
        )
        assert peak_mb(script, tmp_path / file) < 100


def test_two_metadata_in_one_archive(shipped):
    with pytest.warns(UserWarning, match="Duplicate"):
        out = io.BytesIO(shipped)
        with zipfile.ZipFile(out, "a") as made:
            made.writestr("kws_edge.json", "{}")
    with pytest.raises(ModelError, match="twice"):
        unpack(out.getvalue(), "hostile")


def test_an_archive_that_starts_before_the_file(shipped):
    end = shipped.rfind(b"PK\5\6")
    for size, offset in ((2**32 - 1, 0), (0, 2**32 - 1), (end, 2**31), (2**31, end)):
        damaged = shipped[: end + 12] + struct.pack("<LL", size, offset) + shipped[end + 20 :]
        with pytest.raises(ModelError, match="cut short or damaged"):
            unpack(damaged, "hostile")


def test_no_terminal_obeys_a_model_file(shipped, values, file, run_cli, tmp_path):
    """Texts of a model file are printed without control characters. JSON has them unchanged."""
    flatbuffer = unpack(shipped, "shipped")[0]
    evil = "a\x1b]0;t\x07\u202e\x9b2J\ud800\nb"
    changed = {
        "name": evil,
        "description": evil,
        "licence": evil,
        "provenance": {evil: evil, "deep": {evil: [evil]}, "x" * 10_000: 100_000 * "x"},
        "metrics": {evil: 1},
    }
    file(packed(json.dumps({**values, **changed}), flatbuffer))
    done = run_cli("info", "model.tflite")
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    assert all(line.isprintable() and len(line) < 11_000 for line in text.splitlines())
    assert "a\\x1b]0;t\\x07\\u202e\\x9b2J\\ud800 b" in text
    assert json.loads(run_cli("info", "model.tflite", "--json").stdout)["name"] == evil
    labels = [f"{evil}{i}" for i in range(12)]
    file(packed(json.dumps({**values, "labels": labels}), flatbuffer))
    for command in (("info", "model.tflite"), ("listen", "-", "--model", "model.tflite")):
        failed = run_cli(*command)
        assert_one_line_error(failed, "labels", r"\x1b")
        assert failed.stderr.decode()[:-1].isprintable()


def archive(**files: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name, text in files.items():
            made.writestr(name, text)
    return out.getvalue()


def test_archive_of_its_own(shipped):
    """In a file of `cat model archive`, offsets count from the start of the archive."""
    flatbuffer, metadata = unpack(shipped, "shipped")
    with zipfile.ZipFile(io.BytesIO(shipped)) as packed:
        text = packed.read("kws_edge.json").decode()
    assert unpack(flatbuffer + archive(**{"a": "b", "kws_edge.json": text}), "joined") == (flatbuffer, metadata)


def test_foreign_archive(shipped):
    """An archive of TFLite Metadata is ignored, and is no part of the network. An archive alone stays an archive."""
    flatbuffer = unpack(shipped, "shipped")[0]
    other = archive(**{"labels.txt": "yes"})
    assert unpack(flatbuffer + other, "foreign") == (flatbuffer, None)
    assert unpack(other, "archive") == (other, None)


def test_damaged_archive(shipped):
    """Flipped bytes in the archive never give other metadata or another exception."""
    flatbuffer, metadata = unpack(shipped, "shipped")
    rng, refused = np.random.default_rng(2), 0
    for at in rng.integers(len(flatbuffer), len(shipped), 300):
        damaged = bytearray(shipped)
        damaged[at] ^= 1 << rng.integers(8)
        try:
            found = unpack(bytes(damaged), "damaged")
        except ModelError:
            refused += 1
        else:
            assert found in ((flatbuffer, metadata), (bytes(damaged), None))
    assert refused > 200


def test_foreign_model(file, shipped, model):
    flatbuffer, metadata = unpack(shipped, "shipped")
    path = file(flatbuffer, "foreign.tflite")
    with pytest.raises(ModelError, match=r"says nothing of its labels and front end.*--labels and --frontend"):
        Model(path)
    foreign = Model(path, labels=metadata.labels, frontend_config=preset("logmel40"), kernels="builtin")
    features = np.random.default_rng(0).uniform(0, 255, (98, 40)).astype(np.float32)
    assert np.array_equal(foreign.posteriors(features), model.posteriors(features))
    with pytest.raises(ModelError, match="12 outputs, but 2 labels"):
        Model(path, labels=("a", "b"), frontend_config=preset("logmel40"))


def test_float_model_is_refused(file):
    tf = pytest.importorskip("tensorflow", exc_type=ImportError, reason="TensorFlow is not installed here")
    keras = pytest.importorskip("keras", exc_type=ImportError)
    inputs = keras.Input(batch_shape=(1, 98, 40, 1))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    network = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))
    path = file(tf.lite.TFLiteConverter.from_keras_model(network).convert(), "float.tflite")
    with pytest.raises(
        ModelError, match=r"float\.tflite: input is float32 where INT8 is expected; .* `kws-host import`"
    ):
        Model(path, labels=("a", "b"), frontend_config=preset("logmel40"))
    allowed = Model(path, labels=("a", "b"), frontend_config=preset("logmel40"), allow_float=True)
    with pytest.raises(ConfigError, match="labels must be 1 to 1000 names, got 0"):
        Model("commands12", labels=[])  # not taken for None
    assert allowed.posteriors(np.zeros((98, 40), np.float32)).sum() == pytest.approx(1)


def test_missing_and_folder(tmp_path):
    with pytest.raises(ModelError, match=r"nowhere: no such file.*commands12"):
        Model("nowhere")
    with pytest.raises(ModelError, match="is a folder"):
        Model(tmp_path)


def test_metadata_defaults_are_complete():
    metadata = Metadata(labels=("a",), frontend_config=preset("logmel40"))
    assert metadata.detector_config == DetectorConfig()


def test_reading_costs_no_runtime():
    code = "import sys, kws_edge; kws_edge.shipped_models(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "kws_edge" in loaded
    assert not loaded & {"ai_edge_litert", "tflite_runtime", "tensorflow"}


TEXT = st.text("abc é\n\x1b\u202e\ud800\U0001f600", max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(-1e300, 1e300) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
LABELS = st.lists(
    st.text("abc éж中_-", min_size=1, max_size=100).filter(str.strip), min_size=1, max_size=12, unique=True
).map(tuple)
METADATA = st.builds(
    Metadata,
    labels=LABELS,
    frontend_config=front_ends(),
    detector_config=detectors(),
    name=TEXT,
    description=TEXT,
    licence=TEXT,
    provenance=st.dictionaries(TEXT, JSON, max_size=3),
    metrics=st.dictionaries(TEXT, JSON, max_size=3),
)
FLATBUFFERS = st.binary(max_size=200) | st.sampled_from([b"PK\5\6" + bytes(18), b"kws_edge.jso", b"TFL3" * 9])


@given(FLATBUFFERS, METADATA)
def test_any_metadata_survives_its_file(flatbuffer, metadata):
    data = pack(flatbuffer, metadata)
    assert data[: len(flatbuffer)] == flatbuffer
    found = unpack(data, "made")
    assert found == (flatbuffer, metadata)
    assert pack(*found) == data
    with zipfile.ZipFile(io.BytesIO(data)) as made:
        assert made.testzip() is None
        assert made.namelist() == ["kws_edge.json", "labels.txt"]
        assert made.read("labels.txt").decode() == "".join(f"{label}\n" for label in metadata.labels)
        assert {entry.date_time for entry in made.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        values = json.loads(made.read("kws_edge.json"))
    assert values["tflite_sha256"] == hashlib.sha256(flatbuffer).hexdigest()
    assert values["format"] == 1


@given(METADATA, st.data())
def test_a_file_that_ends_early_gives_no_metadata(metadata, data):
    """Wherever the file ends, it is refused or is a bare network."""
    whole = pack(b"TFL3" * 9, metadata)
    cut = data.draw(st.integers(0, len(whole) - 1))
    try:
        assert unpack(whole[:cut], "cut") == (whole[:cut], None)
    except ModelError as error:
        assert str(error).startswith("cut: cut short or damaged")
        assert cut > 36
    else:
        assert b"kws_edge.json" not in whole[:cut]


@given(METADATA, st.data())
def test_a_byte_that_changes_is_noticed_or_says_nothing(metadata, data):
    flatbuffer = b"TFL3" * 9
    damaged = bytearray(pack(flatbuffer, metadata))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = unpack(bytes(damaged), "damaged")
    except ModelError as error:
        assert str(error).startswith("damaged: ")
    else:
        assert found[1] in (None, metadata)
        assert found[1] is None or found[0] == flatbuffer
