import contextlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from kws_edge import DetectorConfig, Metadata, Model, ModelError, pack, preset, shipped_models, unpack
from kws_edge.tflite import FlatModel


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
    assert metadata.front_end == preset("logmel40")
    again = pack(flatbuffer, metadata)
    assert again == shipped
    assert unpack(again, "again") == (flatbuffer, metadata)


def test_is_a_zip_for_zip_tools(shipped):
    with zipfile.ZipFile(io.BytesIO(shipped)) as archive:
        assert archive.testzip() is None
        assert archive.read("labels.txt").decode().split()[2] == "yes"


def test_plain_tflite_tools_read_it(shipped):
    """The whole file, metadata and all, in each runtime that is here, gives what the bare flatbuffer gives."""
    flatbuffer, _ = unpack(shipped, "shipped")
    from kws_edge.runtime import Interpreter, installed

    values = np.random.default_rng(0).integers(-128, 128, (1, 98, 40, 1)).astype(np.int8)
    expected = Interpreter(flatbuffer, kernels="builtin").invoke(values)
    for runtime in set(installed()) - {"tensorflow"}:
        got = Interpreter(shipped, runtime=runtime, kernels="builtin").invoke(values)
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
    """Every cut is refused; none reaches a runtime, which might crash."""
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
        ({"front_end": preset("reference")}, r"input of shape \[1, 98, 40, 1\].*128 frames of 64 mels"),
        ({"detector": DetectorConfig(thresholds={"maybe": 0.5})}, "maybe"),
        ({"detector": DetectorConfig(wake_word="marvin")}, "marvin"),
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


def archive(**files: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name, text in files.items():
            made.writestr(name, text)
    return out.getvalue()


def test_archive_of_its_own(shipped):
    """`cat model archive`: offsets count from the start of the archive."""
    flatbuffer, metadata = unpack(shipped, "shipped")
    with zipfile.ZipFile(io.BytesIO(shipped)) as packed:
        text = packed.read("kws_edge.json").decode()
    assert unpack(flatbuffer + archive(**{"a": "b", "kws_edge.json": text}), "joined") == (flatbuffer, metadata)


def test_foreign_archive(shipped):
    """What TFLite Metadata appends says nothing to us."""
    data = unpack(shipped, "shipped")[0] + archive(**{"labels.txt": "yes"})
    assert unpack(data, "foreign") == (data, None)


def test_damaged_archive(shipped):
    """Flipped bytes in the archive never give other metadata, nor another exception."""
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
    with pytest.raises(ModelError, match=r"says nothing of its labels and front end.*--labels and --front-end"):
        Model(path)
    foreign = Model(path, labels=metadata.labels, front_end=preset("logmel40"), kernels="builtin")
    features = np.random.default_rng(0).uniform(0, 255, (98, 40)).astype(np.float32)
    assert np.array_equal(foreign.posteriors(features), model.posteriors(features))
    with pytest.raises(ModelError, match="12 outputs, but 2 labels"):
        Model(path, labels=("a", "b"), front_end=preset("logmel40"))


def test_float_model_is_refused(file):
    tf = pytest.importorskip("tensorflow", exc_type=ImportError, reason="TensorFlow is not installed here")
    keras = pytest.importorskip("keras", exc_type=ImportError)
    inputs = keras.Input(batch_shape=(1, 98, 40, 1))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    network = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))
    path = file(tf.lite.TFLiteConverter.from_keras_model(network).convert(), "float.tflite")
    with pytest.raises(ModelError, match=r"float\.tflite: is a float model .* INT8 is expected"):
        Model(path, labels=("a", "b"), front_end=preset("logmel40"))
    allowed = Model(path, labels=("a", "b"), front_end=preset("logmel40"), allow_float=True)
    assert allowed.posteriors(np.zeros((98, 40), np.float32)).sum() == pytest.approx(1)


def test_missing_and_folder(tmp_path):
    with pytest.raises(ModelError, match=r"nowhere: no such file.*commands12"):
        Model("nowhere")
    with pytest.raises(ModelError, match="is a folder"):
        Model(tmp_path)


def test_metadata_defaults_are_complete():
    metadata = Metadata(labels=("a",), front_end=preset("logmel40"))
    assert metadata.detector == DetectorConfig()


def test_reading_costs_no_runtime():
    code = "import sys, kws_edge; kws_edge.shipped_models(); print(any('interpreter' in m for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.strip() == b"False"
