"""Quantisation: PTQ, QAT, the compact file, and the report that compares them."""

import csv
import dataclasses
import functools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws_edge import Frontend, Model, pack, preset, unpack
from kws_edge.model.interpreter import Interpreter
from tests.conftest import assert_one_line_error
from tests.tones import WORDS

keras = pytest.importorskip("keras", exc_type=ImportError, reason="Keras is not installed here")
pytest.importorskip("tensorflow", exc_type=ImportError, reason="TensorFlow is not installed here")

from host_tools.convert.clip_graph import to_float, to_int8  # noqa: E402
from host_tools.convert.compact import compact  # noqa: E402
from host_tools.errors import TrainingError  # noqa: E402
from host_tools.networks.models import build  # noqa: E402
from host_tools.networks.qat import FakeQuant, is_quantisation_aware, quantisation_aware  # noqa: E402

pytestmark = [pytest.mark.host, pytest.mark.xdist_group("training"), pytest.mark.timeout(600)]


def agreement(run, path, folder):
    """Share of the test clips to which a run's network and its file give the same label."""
    network = keras.models.load_model(run / "best.keras", compile=False)
    frontend, model = Frontend(preset("logmel40")), Model(path, kernels="builtin")
    levels = [frontend(soundfile.read(clip, dtype="int16")[0]) for clip in sorted((folder / "test").rglob("*.wav"))]
    assert len(levels) == 104
    floating = network.predict(np.array(levels)[..., np.newaxis], verbose=0).argmax(axis=1)
    return np.mean(floating == [model.posteriors(one).argmax() for one in levels])


def test_quantise_and_evaluate(folder, run_folder, run_cli, tmp_path):
    done = run_cli("quantize", run_folder, "-o", "tones.tflite", package="host_tools")
    assert done.returncode == 0, done.stderr
    assert b"calibrate again" not in done.stdout
    flat, metadata = unpack((tmp_path / "tones.tflite").read_bytes(), "tones")
    calibrated = dataclasses.replace(metadata, metrics={**metadata.metrics, "calibration": {"threshold": 0.6}})
    (tmp_path / "again.tflite").write_bytes(pack(flat, calibrated))
    again = run_cli("quantize", run_folder, "-o", "again.tflite", "--name", "tones", package="host_tools")
    assert again.returncode == 0, again.stderr
    assert b"again.tflite held settings that kws-host calibrate chose" in again.stdout
    assert (tmp_path / "tones.tflite").read_bytes() == (tmp_path / "again.tflite").read_bytes()

    model = Model(tmp_path / "tones.tflite")
    assert (model.input.scale, model.input.zero_point) == (1.0, -128)
    assert model.metadata.provenance["training"]["epochs"] == 4
    assert agreement(run_folder, tmp_path / "tones.tflite", folder) > 0.9

    results = []
    for subject in ("tones.tflite", run_folder):
        done = run_cli("evaluate", subject, "--clips", folder / "test", "--json", "-o", "r.json", package="host_tools")
        assert done.returncode == 0, done.stderr
        values = json.loads(done.stdout)
        assert json.loads((tmp_path / "r.json").read_text()) == values
        results.extend(values["results"])
    int8, floating = results
    assert int8["clips"] == floating["clips"] == len(WORDS) * 8
    # Chance is 1/12: a broken label order, split or calibration shows here.
    assert floating["accuracy"] > 0.6
    assert abs(int8["accuracy"] - floating["accuracy"]) < 0.05
    low, high = int8["interval_95"]
    assert low < int8["accuracy"] < high
    text = run_cli("evaluate", "tones.tflite", "--clips", folder / "test", package="host_tools").stdout.decode()
    assert f"accuracy {int8['accuracy']:.2%} of 104 clips" in text


def test_reference_front_end_trains_and_quantises(folder, run_cli, tmp_path):
    """The other preset's levels are not clipped, and its frames are resized. The same tools take it."""
    command = ["train", folder / "clips", "-o", "run", "--frontend", "reference", "--epochs", "1", "--steps", "6"]
    done = run_cli(*command, "--batch-size", "16", "--width", "0.17", package="host_tools")
    assert done.returncode == 0, done.stderr
    assert run_cli("quantize", "run", "-o", "r.tflite", package="host_tools").returncode == 0
    model = Model(tmp_path / "r.tflite")
    assert model.frontend_config == preset("reference")
    assert model.input.shape == (1, 128, 64, 1)
    results = [
        json.loads(run_cli("evaluate", s, "--clips", folder / "test", "--json", package="host_tools").stdout)[
            "results"
        ][0]
        for s in ("r.tflite", "run")
    ]
    assert results[0]["clips"] == results[1]["clips"] == 104
    detected = run_cli("detect", folder / "test" / "yes" / "yes0.wav", "--model", "r.tflite")
    assert detected.returncode == 0, detected.stderr


def test_evaluation_on_parts_and_features(folder, run_folder, run_cli):
    command = ["evaluate", run_folder, "--clips", folder / "clips", "--split", "validation", "--at-least", "6"]
    done = run_cli(*command, "--features", folder / "features", "--own-labels", "--json", package="host_tools")
    clips, features = json.loads(done.stdout)["results"]
    assert clips["clips"] == 10 * 6  # the three words that are no label are left out
    assert features["clips"] == len(WORDS)
    assert features["data"].endswith("features (validation)")


def randomised(name, frontend, classes, **options):
    """A network of random weights with effective batch norms, and inputs for it."""
    config, rng = preset(frontend), np.random.default_rng(0)
    keras.utils.set_random_seed(1)  # independent of what other tests have drawn
    model = build(name, config, classes, **options)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            gamma, variance = rng.uniform(0.5, 1.5, gamma.shape), rng.uniform(0.5, 2, variance.shape)
            layer.set_weights([gamma, rng.normal(0, 0.5, beta.shape), rng.normal(0, 0.2, mean.shape), variance])
    low, high = (0, 255) if config.level_max else (-13, 2)
    x = rng.uniform(low, high, (40, *config.feature_shape, 1)).astype(np.float32)
    x[0].flat[0], x[0].flat[-1] = low, high
    return model, x


def outputs(flatbuffer, x, kernels="builtin"):
    """INT8 outputs for float inputs, through LiteRT without delegates."""
    from kws_edge.model.tflite import FlatModel

    flat = FlatModel(flatbuffer, "model")
    interpreter = Interpreter(flat, kernels=kernels)
    scale, zero = flat.inputs[0].scale, flat.inputs[0].zero_point
    q = np.clip(np.rint(x / scale) + zero, -128, 127).astype(np.int8)
    return np.array([interpreter.invoke(row[np.newaxis])[0] for row in q])


NETWORKS = [
    ("residual", "logmel40", 12, {"width": 0.34}),
    ("micro", "logmel40", 12, {}),
    ("cnn_reference", "reference", 10, {"width": 0.125}),
]


@pytest.mark.parametrize(("name", "frontend", "classes", "options"), NETWORKS)
def test_fake_quantisation_is_what_the_file_computes(name, frontend, classes, options):
    """The INT8 file of a quantisation-aware network gives the network's own outputs, to a few steps of 1/256."""
    model, x = randomised(name, frontend, classes, **options)
    aware = quantisation_aware(model, x)
    assert is_quantisation_aware(aware)
    assert not is_quantisation_aware(model)
    simulated = keras.ops.convert_to_numpy(aware(x)) * 256 - 128
    difference = np.abs(outputs(to_int8(aware), x) - simulated)
    assert difference.max() <= 6
    assert difference.mean() <= 0.6
    # Another quantisation would not do: the float network is further away.
    assert np.abs(keras.ops.convert_to_numpy(model(x)) * 256 - 128 - simulated).max() > 0.01


def test_quantisation_aware_training_learns_weights_and_ranges():
    model, x = randomised("micro", "logmel40", 12, width=0.29)
    aware = quantisation_aware(model, x)
    for layer in aware.layers:
        if isinstance(layer, FakeQuant) and layer.trainable_variables:
            layer.high.assign(layer.high * 0.7)  # some activations are clipped, so a gradient reaches the range
    before = {v.path: v.numpy() for v in aware.trainable_variables}
    aware.compile(optimizer=keras.optimizers.Adam(1e-2), loss="categorical_crossentropy")
    aware.train_on_batch(x, np.eye(12, dtype=np.float32)[np.arange(40) % 12])
    still = [v.path for v in aware.trainable_variables if np.array_equal(before[v.path], v.numpy())]
    ranges = [path for path in before if path.endswith("/high")]
    assert len(ranges) == 23
    assert len(still) <= 4
    assert set(still) <= set(ranges)


def test_an_unknown_layer_is_refused():
    inputs = keras.Input((98, 40, 1))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.UpSampling2D(name="up")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))
    with pytest.raises(TrainingError, match="no quantised form of the layer 'up'"):
        quantisation_aware(model, np.zeros((1, 98, 40, 1), np.float32))


@pytest.mark.parametrize(("name", "frontend", "classes", "options"), NETWORKS)
def test_compact_file_computes_the_same(name, frontend, classes, options):
    model, x = randomised(name, frontend, classes, **options)
    whole = to_int8(model, x, plain=True)
    small = compact(whole)
    assert len(small) < 0.93 * len(whole)
    assert compact(small) == small
    assert np.array_equal(outputs(small, x), outputs(whole, x))
    if name == "micro":
        assert len(small) < 58_000


def test_reference_sizes():
    """The reference system's files have 4.88 MB in float and 1.26 MB in INT8, 3.88 times less."""
    model, x = randomised("cnn_reference", "reference", 36)
    floating, int8 = len(to_float(model)), len(to_int8(model, x[:4], plain=True))
    assert round(floating / 1e6, 2) == 4.88
    assert round(int8 / 1e6, 2) == 1.26
    assert floating / int8 == pytest.approx(3.88, abs=0.02)
    assert len(to_int8(model, x[:4])) < int8


def test_micro_fits_a_microcontroller():
    micro = pytest.importorskip("tflite_micro", exc_type=ImportError, reason="tflite-micro is not installed here")
    model, x = randomised("micro", "logmel40", 12)
    flatbuffer = to_int8(model, x)
    interpreter = micro.runtime.Interpreter.from_bytes(flatbuffer, arena_size=32 * 1024)
    for row, expected in zip(x, outputs(flatbuffer, x), strict=True):
        interpreter.set_input((np.rint(row[np.newaxis]) - 128).astype(np.int8), 0)
        interpreter.invoke()
        assert np.array_equal(interpreter.get_output(0)[0], expected)


def test_qat_and_report(folder, run_folder, run_cli, tmp_path):
    """The command line fine-tunes, writes an INT8 file without calibration, and compares all forms."""
    sources = ["--features", folder / "features", "--speech", folder / "speech", "--cache", folder / "cache"]
    command = ["qat", run_folder, folder / "clips", *sources, "-o", "qat", "--epochs", "1", "--steps", "20"]
    done = run_cli(*command, package="host_tools")
    assert done.returncode == 0, done.stderr
    assert "before training" in done.stdout.decode()
    done = run_cli("quantize", "qat", "-o", "q.tflite", package="host_tools")
    assert done.returncode == 0, done.stderr
    model = Model(tmp_path / "q.tflite")
    assert "quantisation-aware" in model.metadata.description
    assert "calibration" not in model.metadata.provenance
    assert model.metadata.provenance["training"]["qat"] == run_folder.name  # no path of this machine
    assert agreement(tmp_path / "qat", tmp_path / "q.tflite", folder) > 0.97

    command = ["report", run_folder, "--qat", "qat", "--clips", folder / "test", "-o", "report"]
    done = run_cli(*command, package="host_tools")
    assert done.returncode == 0, done.stderr
    values = json.loads((tmp_path / "report" / "report.json").read_text())
    forms = values["forms"]
    assert list(forms) == ["FP32 Keras", "float TFLite", "PTQ INT8", "QAT INT8"]
    assert forms["float TFLite"]["agreement_with_fp32"] == 1
    assert forms["QAT INT8"]["accuracy"] >= forms["PTQ INT8"]["accuracy"] - 0.05
    for form in ("PTQ INT8", "QAT INT8"):
        drop = 100 * (forms["FP32 Keras"]["accuracy"] - forms[form]["accuracy"])
        assert forms[form]["drop_points"] == pytest.approx(drop, abs=0.01)
        assert np.sum(forms[form]["confusion"]) == values["clips"] == 104
    assert len(values["samples"]) == 10
    sizes = values["sizes"]
    assert sizes["model file (PTQ INT8 with metadata)"] == (tmp_path / "report" / "ptq.tflite").stat().st_size
    expected = sizes["float TFLite"] / sizes["PTQ INT8 TFLite"]
    assert values["ratios"]["float TFLite to INT8"] == pytest.approx(expected, abs=0.01)
    assert len(values["ratios"]) == 2
    text = (tmp_path / "report" / "report.md").read_text()
    assert text in done.stdout.decode()
    assert f"{100 * forms['PTQ INT8']['accuracy']:.2f} %" in text
    assert (tmp_path / "report" / "confusion.png").read_bytes().startswith(b"\x89PNG")
    plain = ("--kernels", "builtin", "--json")  # as in the report
    again = json.loads(
        run_cli("evaluate", "report/qat.tflite", "--clips", folder / "test", *plain, package="host_tools").stdout
    )
    assert again["results"][0]["confusion"] == forms["QAT INT8"]["confusion"]


def test_report_tests_on_what_the_run_was_trained_on(folder, run_folder, run_cli, tmp_path):
    """Without named data it tests on a part of the clips in the record, unless they have changed."""
    run = tmp_path / "run"
    shutil.copytree(run_folder, run)
    shutil.copytree(folder / "clips", tmp_path / "clips")
    record = json.loads((run / "config.json").read_text())
    record["config"]["data"]["clips"] = str(tmp_path / "clips")
    (run / "config.json").write_text(json.dumps(record))
    report = functools.partial(run_cli, "report", "run", "-o", "report", package="host_tools")
    assert_one_line_error(report(), "clips: no testing clips left", program="kws-host")  # nobody is left for that part
    done = report("--split", "validation")
    assert done.returncode == 0, done.stderr
    values = json.loads((tmp_path / "report" / "report.json").read_text())
    assert (values["data"], values["clips"]) == (f"{tmp_path / 'clips'} (validation)", 6 * len(WORDS))
    shutil.rmtree(tmp_path / "report")
    next((tmp_path / "clips" / "yes").iterdir()).unlink()
    assert_one_line_error(report(), "clips: has changed since run was trained", "--clips", program="kws-host")
    shutil.rmtree(tmp_path / "clips")
    assert_one_line_error(report(), "clips: run was trained on it, and it is gone", "--clips", program="kws-host")
    del record["sources"]
    (run / "config.json").write_text(json.dumps(record))
    assert_one_line_error(report(), "config.json: broken (no 'sources')", program="kws-host")
    assert not (tmp_path / "report").exists()


def test_errors_of_clips_to_hear(folder, run_folder, run_cli, tmp_path):
    """Misclassified clips of a run and of a file come with posteriors, the worst first. No folder is overwritten."""
    run = functools.partial(run_cli, "evaluate", run_folder, package="host_tools")
    done = run("--clips", folder / "test", "--features", folder / "features", "--json", "--errors", "wrong")
    assert done.returncode == 0, done.stderr
    expected = sum(v["clips"] - np.trace(v["confusion"]) for v in json.loads(done.stdout)["results"])
    with open(tmp_path / "wrong" / "errors.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == expected > 3
    margins = []
    for row in rows:
        margins.append(float(row[f"p({row['truth']})"]) - float(row[f"p({row['predicted']})"]))
        assert margins[-1] < 0
        if ", row " in row["clip"]:
            assert not row["file"]  # features have no sound
        else:
            assert f"_{row['truth']}_as_{row['predicted']}_" in row["file"]
            assert (tmp_path / "wrong" / row["file"]).read_bytes() == Path(row["clip"]).read_bytes()
    assert margins == sorted(margins)
    assert_one_line_error(run("--clips", folder / "test", "--errors", "wrong"), "is there already", program="kws-host")
    done = run("--clips", folder / "test", "--errors", "few", "--most-errors", "2")
    assert b"wrote few: 2 clips, worst first, and errors.csv with the posteriors of " in done.stdout
    names = sorted(path.name[:5] for path in (tmp_path / "few").iterdir())
    assert names == ["0001_", "0002_", "error"]
