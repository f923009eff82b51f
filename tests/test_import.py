"""Networks from elsewhere: TFLite and Keras files become model files, and your own networks train."""

import functools
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from kws_edge import DetectorConfig, Model, preset, shipped_models, unpack
from kws_edge.model.file import pack
from tests.conftest import assert_one_line_error, assert_usage_error, train_command

keras = pytest.importorskip("keras", exc_type=ImportError, reason="Keras is not installed here")
tf = pytest.importorskip("tensorflow", exc_type=ImportError, reason="TensorFlow is not installed here")

from host_tools.convert.import_tflite import run_network  # noqa: E402
from host_tools.convert.model_import import import_model  # noqa: E402
from host_tools.errors import DatasetError, TrainingError  # noqa: E402
from host_tools.networks.models import build  # noqa: E402
from host_tools.networks.qat import quantisation_aware  # noqa: E402
from kws_edge.errors import ModelError, UsageError  # noqa: E402
from kws_edge.model.tflite import FlatModel  # noqa: E402

pytestmark = [
    pytest.mark.host,
    pytest.mark.xdist_group("training"),
    pytest.mark.timeout(600),
    # These warnings are Keras's of h5py, and TensorFlow's of a converter without a batch of examples.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Statistics for quantized inputs:UserWarning"),
]

LABELS = ("silence", "unknown", "yes", "no")
FRONTEND = preset("logmel40")


def network(activation, *, n=4):
    """A small network of random weights. Its inputs have no channel."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((98, 40))
    x = keras.layers.Reshape((98, 40, 1))(inputs)
    x = keras.layers.Rescaling(1 / 32, offset=-4)(x)
    x = keras.layers.Conv2D(8, 5, strides=3, activation="relu")(x)
    x = keras.layers.Flatten()(x)
    return keras.Model(inputs, keras.layers.Dense(n, activation=activation)(x))


def converted(model, *, quantised=True, ends=None):
    """The network, converted by TensorFlow."""
    one = keras.Input(batch_shape=(1, 98, 40))
    converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(one, model(one)))
    if quantised:
        levels = np.random.default_rng(0).uniform(0, 255, (20, 1, 98, 40)).astype(np.float32)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([x] for x in levels)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = ends or tf.float32
    return converter.convert()


def levels():
    return np.random.default_rng(3).uniform(0, 255, (20, 98, 40)).astype(np.float32)


def posteriors(path, x):
    file = Model(path, kernels="builtin")
    return np.array([file.posteriors(one) for one in x])


def test_import_keeps_an_int8_network_as_it_is(run_cli, tmp_path):
    flatbuffer, metadata = unpack(Path(shipped_models()["micro12"]).read_bytes(), "micro12")
    (tmp_path / "bare.tflite").write_bytes(flatbuffer)
    (tmp_path / "frontend.json").write_text(json.dumps(metadata.frontend_config.to_dict()))
    run = functools.partial(run_cli, "import", "bare.tflite", "-o", "out.tflite", package="host_tools")
    options = ("--labels", ",".join(metadata.labels), "--frontend", "frontend.json", "--threshold", "0.8",
               "--threshold", "go=0.9", "--licence", "CC0", "--description", "mine")  # fmt: skip
    done = run(*options)
    assert done.returncode == 0, done.stderr
    assert f"98 frames of 40 mels to {', '.join(metadata.labels)}" in done.stdout.decode()
    ours, said = unpack((tmp_path / "out.tflite").read_bytes(), "out")
    assert ours == flatbuffer
    assert (said.labels, said.frontend_config, said.licence, said.description) == (
        metadata.labels, metadata.frontend_config, "CC0", "mine",
    )  # fmt: skip
    assert said.detector_config == DetectorConfig(threshold=0.8, thresholds={"go": 0.9})
    assert said.provenance["imported"] == "bare.tflite"
    assert_usage_error(run(), "give --labels and --frontend", program="kws-host")
    common = {"labels": metadata.labels, "frontend_config": metadata.frontend_config}
    with pytest.raises(UsageError, match="name another file"):
        import_model(tmp_path / "bare.tflite", tmp_path / "bare.tflite", **common)
    with pytest.raises(ModelError, match=r"bare\.tflite: .* maybe, which is no label"):
        changes = {"thresholds": {"maybe": 0.5}}
        import_model(tmp_path / "bare.tflite", tmp_path / "out.tflite", **common, changes=changes)
    again = import_model(tmp_path / "out.tflite", tmp_path / "again.tflite", name="other")  # our file names its labels
    assert (again.metadata.labels, again.metadata.name, again.metadata.licence) == (metadata.labels, "other", "CC0")


def test_import_recognises_what_networks_end_in(folder, tmp_path):
    """Logits get a softmax, and a single one a sigmoid. Float ends of an INT8 network are cut off."""
    cut, softmax, sigmoid = "its input and output are in INT8", "a softmax was added", "a sigmoid was added"
    for activation, n, ends, notes in (
        ("softmax", 4, tf.int8, []),
        (None, 4, tf.uint8, [softmax]),
        ("softmax", 4, None, [cut]),
        (None, 4, None, [cut, softmax]),
        (None, 1, tf.int8, [sigmoid]),
    ):
        flatbuffer = converted(network(activation, n=n), ends=ends)
        (tmp_path / "x.tflite").write_bytes(flatbuffer)
        labels = LABELS if n > 1 else ("yes",)
        found = import_model(tmp_path / "x.tflite", tmp_path / "y.tflite", labels=labels, frontend_config=FRONTEND)
        assert len(found.notes) == len(notes) and all(map(str.__contains__, found.notes, notes)), found.notes
        expected = run_network(FlatModel(flatbuffer, "x"), levels())
        if softmax in notes:
            expected = np.exp(expected) / np.exp(expected).sum(axis=1, keepdims=True)
        elif sigmoid in notes:
            expected = 1 / (1 + np.exp(-expected))
        np.testing.assert_allclose(posteriors(tmp_path / "y.tflite", levels()), expected, atol=0.01)


@pytest.mark.parametrize("activation", ["softmax", None])
def test_import_quantises_float_networks(folder, tmp_path, activation):
    """Networks of Keras and TFLite are quantised on recordings. Both give the same file."""
    model = network(activation)
    model.save(tmp_path / "k.keras")
    (tmp_path / "f.tflite").write_bytes(converted(model, quantised=False))
    common = {"labels": LABELS, "frontend_config": FRONTEND}
    for name in ("k.keras", "f.tflite"):
        with pytest.raises(DatasetError, match=rf"{name}: is in floating point; give --clips DIR"):
            import_model(tmp_path / name, tmp_path / "out.tflite", **common)
        found = import_model(tmp_path / name, tmp_path / f"{name}.out", **common, clips=folder / "test", n=80)
        assert found.notes[-1].startswith("quantised on 80 clips: INT8 and float agree on ")
        assert found.metadata.provenance["calibration"] == {"examples": 80, "seed": 0}
        file = Model(tmp_path / f"{name}.out")
        assert (file.input.scale, file.input.zero_point) == (1.0, -128)
        expected = model.predict(levels(), verbose=0)
        if activation is None:
            expected = keras.ops.convert_to_numpy(keras.ops.softmax(expected))
        np.testing.assert_allclose(posteriors(tmp_path / f"{name}.out", levels()), expected, atol=0.2)
    few = import_model(tmp_path / "k.keras", tmp_path / "few.tflite", **common, clips=folder / "test", n=3)
    assert "3 clips are few" in few.notes[-1]
    with pytest.raises(DatasetError, match="nothing to quantise"):
        (tmp_path / "empty").mkdir()
        import_model(tmp_path / "k.keras", tmp_path / "few.tflite", **common, clips=tmp_path / "empty")


def test_import_says_what_does_not_fit(folder, tmp_path):
    """One line names the file, whatever is wrong with it. Nothing is written."""
    good = network("softmax")
    good.save(tmp_path / "good.keras")
    data = (tmp_path / "good.keras").read_bytes()
    (tmp_path / "cut.keras").write_bytes(data[:9000])
    (tmp_path / "text.keras").write_text("no network")
    (tmp_path / "float.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    layers = keras.layers
    for name, parts in {
        "lambda": [
            keras.Input((98, 40)),
            layers.Lambda(lambda x: x / 255),
            layers.Flatten(),
            layers.Dense(4, activation="softmax"),
        ],
        "turned": [keras.Input((40, 98)), layers.Flatten(), layers.Dense(4, activation="softmax")],
        "three": [keras.Input((98, 40)), layers.Flatten(), layers.Dense(3, activation="softmax")],
        "words": [keras.Input((98, 40)), layers.Dense(4, activation="softmax")],
        "gru": [keras.Input((98, 40)), layers.GRU(4), layers.Dense(4, activation="softmax")],
    }.items():
        model = keras.Sequential(parts)
        model.save(tmp_path / f"{name}.keras")
    with zipfile.ZipFile(tmp_path / "good.keras") as source, zipfile.ZipFile(tmp_path / "evil.keras", "w") as evil:
        for entry in source.namelist():
            content = source.read(entry)
            if entry == "config.json":  # a function of Keras, by a name that leads to it
                content = content.replace(b'"class_name": "GlorotUniform"', b'"class_name": "utils.get_file"')
                content = content.replace(b'"module": "keras.initializers"', b'"module": "keras"')
            evil.writestr(entry, content)
    for name, complaint in {
        "cut.keras": "cannot be loaded by Keras",
        "text.keras": "cannot be loaded by Keras",
        "float.h5": "save it as .keras",
        "none.keras": "no such file",
        "lambda.keras": "has 'keras.layers.Lambda', which is not run from a file",
        "evil.keras": "has 'keras.utils.get_file', which is not run from a file",
        "turned.keras": r"input of shape \(40, 98\), but its front end gives 98 frames of 40 mels",
        "three.keras": "output of shape .*3.*, but 4 labels",
        "words.keras": "output of shape .*98, 4.*, but 4 labels",
        "gru.keras": "TensorFlow fails to quantise it; leave out recurrent layers",
        "": "is a folder",
    }.items():
        with pytest.raises((ModelError, TrainingError), match=rf"{name or tmp_path.name}: .*{complaint}"):
            import_model(
                tmp_path / name,
                tmp_path / "out.tflite",
                labels=LABELS,
                frontend_config=FRONTEND,
                clips=folder / "test",
                n=9,
            )
    assert not (tmp_path / "out.tflite").exists()


def test_files_that_others_append_are_no_part_of_the_network(tmp_path):
    """The ZIP archive of TFLite Metadata at the end is left out, so that ours is found."""
    flatbuffer, metadata = unpack(Path(shipped_models()["micro12"]).read_bytes(), "micro12")
    path = tmp_path / "meta.tflite"
    path.write_bytes(flatbuffer)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "a\nb\n")
    import_model(path, tmp_path / "out.tflite", labels=metadata.labels, frontend_config=metadata.frontend_config)
    assert Model(tmp_path / "out.tflite").labels == metadata.labels
    assert unpack(pack(flatbuffer, metadata), "ours") == (flatbuffer, metadata)


# The user's own networks in training

NET = """
import keras
from keras import layers

@keras.saving.register_keras_serializable("mine")
class Halve(layers.Layer):
    def call(self, x):
        return x / 2

def build(input_shape, classes, width=1.0):
    x = inputs = keras.Input(input_shape)
    for filters in (16, 24, 32):
        x = layers.Conv2D(round(filters * width), 3, strides=2, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(classes, activation="softmax")(x))

def halved(input_shape, classes):
    x = inputs = keras.Input(input_shape)
    x = layers.Flatten()(layers.AveragePooling2D(8)(Halve()(x)))
    return keras.Model(inputs, layers.Dense(classes, activation="softmax")(x))

def wrong(input_shape, classes):
    x = keras.Input(input_shape)
    return layers.Conv2D(8, 200)(x)

def logits(input_shape, classes, **kw):
    return keras.Sequential([layers.Flatten(), layers.Dense(classes)])

def unsaved(input_shape, classes):
    class Own(layers.Layer):
        def call(self, x):
            return x
    return keras.Sequential([Own(), layers.Flatten(), layers.Dense(classes, activation="softmax")])

def frames(input_shape, classes):
    return keras.Sequential([keras.Input(input_shape), layers.Dense(classes, activation="softmax")])

def nothing(input_shape, classes):
    pass
"""


@pytest.fixture
def net(tmp_path):
    (tmp_path / "mynet.py").write_text(NET)
    (tmp_path / "broken.py").write_text("x = 1\ny = (2\n")
    (tmp_path / "needs.py").write_text("import no_such_package\n")
    return tmp_path / "mynet.py"


def test_train_a_network_of_ones_own(folder, run_cli, net, tmp_path):
    """Each command works in a process of its own. Without the module, all commands say so."""
    command = train_command(folder, "run", "--model", "mynet:build", "--width", "0.5", "--epochs", "2")
    done = run_cli(*command, package="host_tools")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    assert record["config"]["network"]["model"] == "mynet:build"
    assert record["network"]["file"] == str(net)
    sources = ["--features", folder / "features", "--speech", folder / "speech", "--cache", folder / "cache"]
    tune = ["qat", "run", folder / "clips", *sources, "-o", "qat", "--epochs", "1", "--steps", "10"]
    for words in (["quantize", "run", "-o", "q.tflite"], tune, ["quantize", "qat", "-o", "qat.tflite"]):
        done = run_cli(*words, package="host_tools")
        assert done.returncode == 0, (words, done.stderr)
    for name in ("q", "qat"):
        metadata = Model(tmp_path / f"{name}.tflite").metadata
        assert metadata.description.startswith("mynet:build of width 0.5, ")
        assert str(tmp_path) not in json.dumps(metadata.provenance)
        assert metadata.metrics["validation"]["agreement"] > 0.8
    evaluate = functools.partial(run_cli, "evaluate", "run", "--clips", folder / "test", package="host_tools")
    assert b"of 104 clips" in evaluate().stdout

    net.write_text(NET + "\n# changed\n")
    done = evaluate()
    assert done.returncode == 0 and b"mynet.py has changed since run was trained" in done.stderr
    failed = run_cli(*command, package="host_tools")
    assert_one_line_error(failed, "mynet.py as it was before it changed; choose another folder", program="kws-host")
    net.unlink()
    shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
    failed = run_cli("quantize", "run", "-o", "r.tflite", package="host_tools")
    assert_one_line_error(failed, "run: trained with ", "there is no module mynet in", program="kws-host")


def test_errors_of_ones_own_network_name_its_line(net, monkeypatch, tmp_path):
    """The network's own errors are shown as such. Our errors are one line that says what is expected."""
    monkeypatch.chdir(tmp_path)
    wrong = next(i for i, line in enumerate(NET.splitlines(), 1) if "8, 200" in line)
    for name, complaint in {
        "mynet:wrong": rf"mynet.py, line {wrong}, in wrong: return layers.Conv2D\(8, 200\)\(x\): ValueError: Computed",
        "broken:build": r"broken.py, line 2: y = \(2: SyntaxError",
        "needs:build": "needs.py, line 1: import no_such_package: ModuleNotFoundError",
        "mynet:logits": "outputs are no posteriors; end it in",
        "mynet:unsaved": "cannot be saved and loaded again",
        "mynet:frames": r"output has the shape \(98, 40, 12\) where \(12,\) is expected",
        "mynet:nothing": "returns NoneType, not a keras.Model",
        "mynet:other": "mynet.py has no function other",
        "nowhere:build": f"no module nowhere in {tmp_path}",
        "mynet.py:build": "expected MODULE:FUNCTION",
        "os:getcwd": "network os:getcwd: TypeError",
        "other": "or your own as MODULE:FUNCTION",
    }.items():
        with pytest.raises(TrainingError, match=complaint) as error:
            build(name, FRONTEND, 12)
        assert "\n" not in str(error.value)
    with pytest.raises(TrainingError, match="takes no width, got --width"):
        build("mynet:halved", FRONTEND, 12, width=0.5)
    build("mynet:halved", FRONTEND, 12)


def test_an_unknown_network_is_refused_before_features_are_computed(folder, run_cli, tmp_path):
    """Nothing is left behind."""
    failed = run_cli(*train_command(folder, "run", "--model", "transformer"), package="host_tools")
    assert_usage_error(failed, "must be one of residual, micro", "'transformer'", program="kws-host")
    assert not (tmp_path / "run").exists()


def test_qat_refuses_what_it_would_compute_otherwise():
    """Some layers of a user's network have a quantised form only with their usual settings."""
    layers = keras.layers
    x = levels()[:4, ..., np.newaxis]

    def tail(y):
        return layers.Dense(4, activation="softmax")(layers.GlobalAveragePooling2D()(y))

    def norm_first(y):
        return layers.ReLU()(layers.Conv2D(4, 3)(layers.BatchNormalization()(y)))

    def norm_after_relu(y):
        return layers.BatchNormalization()(layers.Conv2D(4, 3, activation="relu")(y))

    for body, complaint in (
        (norm_first, "cannot be folded"),
        (norm_after_relu, "cannot be folded"),
        (lambda y: layers.ReLU(negative_slope=0.1)(layers.Conv2D(4, 3)(y)), "negative_slope"),
        (lambda y: layers.Conv2D(4, 3)(y), "without a ReLU after it"),
        (lambda y: layers.Conv2D(4, 3, activation="tanh")(y), "activation of its own"),
        (lambda y: keras.ops.abs(layers.ReLU()(layers.Conv2D(4, 3)(y))), "operation"),
    ):
        inputs = keras.Input((98, 40, 1))
        with pytest.raises(TrainingError, match=complaint):
            quantisation_aware(keras.Model(inputs, tail(body(inputs))), x)
    inputs = keras.Input((98, 40, 1))
    plain = keras.Model(inputs, tail(layers.Activation("relu")(layers.Conv2D(4, 3, activation="relu")(inputs))))
    aware = quantisation_aware(plain, x)
    np.testing.assert_allclose(aware.predict(x, verbose=0), plain.predict(x, verbose=0), atol=0.1)
