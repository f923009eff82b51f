"""Weights from files of every Keras format, and files that would cause harm."""

import io
import json
import os
import pickle
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from host_tools.errors import TrainingError
from kws_edge import preset

keras = pytest.importorskip("keras", exc_type=ImportError, reason="keras is not installed: no training")

import h5py  # noqa: E402

from host_tools.networks.models import build  # noqa: E402
from host_tools.networks.weight_import import load_weights, transfer  # noqa: E402

# Keras 3.15 with TensorFlow and NumPy 2:
pytestmark = [
    pytest.mark.host,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
]
FORMATS = ("model.keras", "model.weights.h5", "model.h5")
RNG = np.random.default_rng(0)


def network(names=("conv1", "conv1_bn", "conv2", "conv2_bn", "dense", "posteriors"), *, classes=5, units=6, seed=0):
    """A small network with every kind of layer of our networks, and random weights."""
    layers = keras.layers
    conv1, bn1, conv2, bn2, dense, posteriors = names
    inputs = keras.Input((9, 7, 1))
    x = layers.Conv2D(4, 3, use_bias=False, name=conv1)(inputs)
    x = layers.BatchNormalization(name=bn1)(x)
    x = layers.Dropout(0.5)(layers.ReLU()(x))
    x = layers.Conv2D(8, 3, use_bias=False, name=conv2)(x)
    x = layers.BatchNormalization(name=bn2)(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(units, activation="relu", name=dense)(x)
    model = keras.Model(inputs, layers.Dense(classes, activation="softmax", name=posteriors)(x))
    return randomise(model, seed)


def randomise(model, seed):
    rng = np.random.default_rng(seed)
    model.set_weights([rng.uniform(0.1, 1, w.shape) * rng.choice([1, 2], w.shape) for w in model.get_weights()])
    return model


def outputs(model):
    values = np.random.default_rng(1).normal(size=(3, *model.input_shape[1:])).astype(np.float32)
    return np.asarray(model(values, training=False))


def same(model, other):
    return np.array_equal(outputs(model), outputs(other))


def save(model, path):
    """Save a model with an optimizer's state, as Keras does."""
    model.compile(optimizer="adam", loss="mse")
    model.optimizer.build(model.trainable_variables)
    if path.name.endswith(".weights.h5"):
        model.save_weights(path)
    else:
        model.save(path)
    return path


def save_keras2(model, path, *, names=None, whole=True, chunks=1, dtype="float32", config=b"{}"):
    """Save a model or its weights, as tf.keras 2 did, with names under ``layer_names`` or in chunks of it."""
    names = names or {}
    with h5py.File(path, "w") as file:
        root = file
        if whole:
            file.attrs["model_config"] = config
            file.attrs["keras_version"] = b"2.15.0"
            root = file.create_group("model_weights")
            state = file.create_group("optimizer_weights/Adam")
            state["iter:0"] = np.int64(7)
            file["optimizer_weights"].attrs["weight_names"] = [b"Adam/iter:0"]
        saved = [names.get(layer.name, layer.name).encode() for layer in model.layers]
        parts = np.array_split(np.array(saved), chunks)
        for i, part in enumerate(parts):
            root.attrs["layer_names" if chunks == 1 else f"layer_names{i}"] = part
        for layer, name in zip(model.layers, saved, strict=True):
            group = root.create_group(name)
            weights = [f"{name.decode()}/{w.name}:0".encode() for w in layer.weights]
            group.attrs["weight_names"] = weights
            for weight, value in zip(weights, layer.get_weights(), strict=True):
                group[weight] = value.astype(dtype)
    return path


def rename(names=("conv2d", "batch_normalization", "conv2d_1", "batch_normalization_1", "dense", "dense_1")):
    return dict(zip(("conv1", "conv1_bn", "conv2", "conv2_bn", "dense", "posteriors"), names, strict=True))


def rewrite(path, change):
    """Let `change` edit the HDF5 file at `path`, or the HDF5 file in that archive."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        data = io.BytesIO(members["model.weights.h5"])
        with h5py.File(data, "r+") as file:
            change(file)
        members["model.weights.h5"] = data.getvalue()
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
    else:
        with h5py.File(path, "r+") as file:
            change(file)
    return path


def array_in(file, ndim=4):
    """Name of the first array with `ndim` dimensions in a layer."""
    found = []
    file.visititems(lambda name, item: found.append(name) if getattr(item, "ndim", -1) == ndim else None)
    return next(name for name in found if not name.startswith("optimizer"))


def assert_refused(path, *parts, model=None):
    """Assert that one line names the file and `parts`, and that the network is unchanged."""
    model = model or network(seed=9)
    before = outputs(model)
    with pytest.raises(TrainingError) as caught:
        load_weights(model, path)
    message = str(caught.value)
    assert message.startswith(f"{path}: "), message
    assert "\n" not in message
    for part in parts:
        assert part in message
    assert np.array_equal(outputs(model), before)


@pytest.mark.parametrize("name", FORMATS)
def test_round_trip_of_our_network(tmp_path, name):
    def micro(seed):
        return randomise(build("micro", preset("logmel40"), 12, width=0.15), seed)

    source, target = micro(1), micro(2)
    assert not same(source, target)
    assert load_weights(target, save(source, tmp_path / name)) == []
    assert same(source, target)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("chunks", [1, 3])
def test_keras2(tmp_path, dtype, whole, chunks):
    source, target = network(seed=1), network(seed=2)
    source.set_weights([w.astype(np.float16) for w in source.get_weights()])
    path = save_keras2(source, tmp_path / "old.h5", whole=whole, chunks=chunks, dtype=dtype)
    assert load_weights(target, path) == []
    assert same(source, target)


@pytest.mark.parametrize("suffix", ["H5", "hdf5", "keras"])
def test_other_names_of_keras2_files(tmp_path, suffix):
    source, target = network(seed=1), network(seed=2)
    assert load_weights(target, str(save_keras2(source, tmp_path / f"old.{suffix}"))) == []
    assert same(source, target)


def test_renamed_keras2(tmp_path):
    """The names are Keras's own. One of them is the name of another layer of ours."""
    source, target = network(seed=1), network(seed=2)
    assert load_weights(target, save_keras2(source, tmp_path / "old.h5", names=rename())) == []
    assert same(source, target)


def test_swapped_names(tmp_path):
    """Layers are paired by name if both ways set all, and by order if only order sets all."""
    swapped = ("conv1", "conv1_bn", "conv2", "conv2_bn", "posteriors", "dense")
    source, target = network(swapped, classes=8, units=8, seed=1), network(classes=8, units=8, seed=2)
    assert load_weights(target, save_keras2(source, tmp_path / "old.h5")) == []
    assert np.array_equal(target.get_layer("dense").kernel, source.get_layer("dense").kernel)
    source, target = network(swapped, seed=1), network(seed=2)
    assert load_weights(target, save_keras2(source, tmp_path / "old.h5")) == []
    assert same(source, target)


@pytest.mark.parametrize("name", FORMATS)
def test_renamed(tmp_path, name):
    source, target = network(("a", "b", "c", "d", "e", "f"), seed=1), network(seed=2)
    assert load_weights(target, save(source, tmp_path / name)) == []
    assert same(source, target)


@pytest.mark.parametrize("container", ["layers", "_layer_checkpoint_dependencies"])
def test_older_keras_without_names(tmp_path, container):
    """There are twelve layers of a class, so ``_10`` comes after ``_9``, and two classes of the same rank."""

    def deep(seed):
        inputs = x = keras.Input((1, 1, 2))
        for _ in range(12):
            x = keras.layers.DepthwiseConv2D(1)(keras.layers.Conv2D(2, 1)(x))
        return randomise(keras.Model(inputs, x), seed)

    def strip(file):
        for group in file["layers"].values():
            del group["vars"].attrs["name"]
        if container != "layers":
            file.move("layers", container)

    source, target = deep(1), deep(2)
    assert load_weights(target, rewrite(save(source, tmp_path / "model.keras"), strip)) == []
    assert same(source, target)


@pytest.mark.parametrize("name", [*FORMATS, "old.h5"])
def test_another_number_of_classes(tmp_path, name):
    source, target = network(classes=4, seed=1), network(seed=2)
    before = target.get_layer("posteriors").get_weights()
    write = save_keras2 if name == "old.h5" else save
    assert load_weights(target, write(source, tmp_path / name)) == ["posteriors"]
    for layer in ("conv1", "conv1_bn", "conv2", "conv2_bn", "dense"):
        pairs = zip(target.get_layer(layer).get_weights(), source.get_layer(layer).get_weights(), strict=True)
        assert all(np.array_equal(got, expected) for got, expected in pairs)
    assert all(map(np.array_equal, target.get_layer("posteriors").get_weights(), before))


def test_another_number_of_classes_and_other_names(tmp_path):
    source, target = network(classes=4, seed=1), network(seed=2)
    assert load_weights(target, save_keras2(source, tmp_path / "old.h5", names=rename())) == ["posteriors"]


@pytest.mark.parametrize("name", ["model.keras", "old.h5"])
def test_missing_and_extra_layers(tmp_path, name):
    """Layers that both networks have are then set by name."""
    inputs = keras.Input((9, 7, 1))
    x = keras.layers.Conv2D(4, 3, use_bias=False, name="conv1")(inputs)
    x = keras.layers.DepthwiseConv2D(3, name="extra")(x)
    other = randomise(keras.Model(inputs, keras.layers.BatchNormalization(name="conv1_bn")(x)), 1)
    target = network(seed=2)
    path = (save_keras2 if name == "old.h5" else save)(other, tmp_path / name)
    assert load_weights(target, path) == ["conv2", "conv2_bn", "dense", "posteriors"]
    assert np.array_equal(target.get_layer("conv1").kernel, other.get_layer("conv1").kernel)
    assert load_weights(other, save(target, tmp_path / "back.keras")) == ["extra"]


def test_nothing_fits(tmp_path):
    inputs = keras.Input((4,))
    other = keras.Model(inputs, keras.layers.Dense(3, name="head")(inputs))
    path = save(other, tmp_path / "model.keras")
    assert_refused(path, "none of its 1 layers", "conv1 has the shapes [(3, 3, 1, 4)]", "'head' [(4, 3), (3,)]")
    with h5py.File(tmp_path / "empty.h5", "w") as file:
        file["data"] = np.zeros(3)
    assert_refused(tmp_path / "empty.h5", "no weights of layers")


def test_transfer():
    source, target = network(classes=4, seed=1), network(seed=2)
    assert transfer(source, target) == ["posteriors"]
    assert np.array_equal(target.get_layer("conv2").kernel, source.get_layer("conv2").kernel)
    with pytest.raises(TrainingError, match="no layer in common"):
        transfer(network(tuple("abcdef")), target)


def test_missing_file(tmp_path):
    assert_refused(tmp_path / "none.keras", "no such file")
    (tmp_path / "folder.h5").mkdir()
    assert_refused(tmp_path / "folder.h5", "no such file")


def test_unknown_suffix(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"x")
    assert_refused(tmp_path / "model.pt", ".keras", ".weights.h5", ".hdf5")


class Trap:
    """An object whose unpickling writes a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("name", FORMATS)
def test_pickle(tmp_path, name):
    marker = tmp_path / "marker"
    data = pickle.dumps(Trap(marker))
    pickle.loads(data)
    marker.unlink()  # the trap works
    (tmp_path / name).write_bytes(data)
    assert_refused(tmp_path / name, "neither HDF5 nor a .keras archive")
    assert not marker.exists()


def test_archive_under_another_name(tmp_path):
    path = save(network(), tmp_path / "model.keras").rename(tmp_path / "model.h5")
    assert_refused(path, "give it the suffix .keras")
    with zipfile.ZipFile(tmp_path / "torch.keras", "w") as archive:
        archive.writestr("data.pkl", pickle.dumps(Trap(tmp_path / "marker")))
    assert_refused(tmp_path / "torch.keras", "without model.weights.h5")
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_code_in_the_configuration_does_not_run(tmp_path, name):
    """Keras runs the code of a Lambda layer if you call the file safe. Here only the file's weights load."""
    marker = tmp_path / "marker"
    opened = str(marker)
    inputs = keras.Input((9, 7, 1))
    x = keras.layers.Lambda(lambda x: (open(opened, "w").close(), x)[1])(inputs)
    x = keras.layers.Conv2D(4, 3, use_bias=False, name="conv1")(x)
    source = randomise(keras.Model(inputs, keras.layers.BatchNormalization(name="conv1_bn")(x)), 1)
    path = save(source, tmp_path / name)
    marker.unlink()
    keras.models.load_model(path, compile=False, safe_mode=False)
    marker.unlink()  # the trap works
    target = network(seed=2)
    assert load_weights(target, path) == ["conv2", "conv2_bn", "dense", "posteriors"]
    assert np.array_equal(target.get_layer("conv1").kernel, source.get_layer("conv1").kernel)
    assert not marker.exists()


def test_module_in_the_configuration_is_not_imported(tmp_path, monkeypatch):
    marker = tmp_path / "marker"
    (tmp_path / "trap_module.py").write_text(f"open({str(marker)!r}, 'w').close()")
    monkeypatch.syspath_prepend(tmp_path)
    config = {"module": "trap_module", "class_name": "Trap", "config": {}, "registered_name": "Trap"}
    source, target = network(seed=1), network(seed=2)
    path = save(source, tmp_path / "model.keras")
    with zipfile.ZipFile(path) as archive:
        weights = archive.read("model.weights.h5")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("../marker", b"")
        archive.writestr("model.weights.h5", weights)
    assert load_weights(target, path) == []
    old = save_keras2(source, tmp_path / "old.h5", config=json.dumps(config).encode())
    assert load_weights(target, old) == []
    assert same(source, target)
    assert not marker.exists()
    assert not (tmp_path.parent / "marker").exists()


def test_zip_bombs(tmp_path):
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("model.weights.h5", "w") as member:
        for _ in range(80):
            member.write(bytes(2**20))
    assert path.stat().st_size < 2**20
    assert_refused(path, "model.weights.h5 in it has 83,886,080 bytes")
    lies = path.read_bytes().replace((80 * 2**20).to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    path.write_bytes(lies)
    assert_refused(path, "truncated or damaged")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("model.weights.h5", bytes(1000))
    assert_refused(path, "in a way that Keras does not use")
    with open(tmp_path / "model.h5", "wb") as file:
        file.truncate(2**30)
    assert_refused(tmp_path / "model.h5", "1,073,741,824 bytes")


@pytest.mark.parametrize("name", ["model.keras", "model.weights.h5", "old.h5"])
@pytest.mark.parametrize("level", ["array", "group"])
@pytest.mark.parametrize("kind", ["external", "soft"])
def test_links(tmp_path, name, level, kind):
    """An external link leads to the same array as before, so only the link is wrong."""
    path = (save_keras2 if name == "old.h5" else save)(network(seed=1), tmp_path / name)
    elsewhere = tmp_path / "elsewhere.h5"

    def link(file):
        where = array_in(file) if level == "array" else os.path.dirname(array_in(file))
        with h5py.File(elsewhere, "w") as other:
            file.copy(where, other, "secret")
        file.move(where, "moved")
        file[where] = h5py.ExternalLink(elsewhere, "/secret") if kind == "external" else h5py.SoftLink("/moved")

    assert_refused(rewrite(path, link), "is a link")


def replaced(tmp_path, name, create):
    """A file whose first convolution is another dataset, which `create` makes of group, name and old values."""
    path = (save_keras2 if name == "old.h5" else save)(network(seed=1), tmp_path / name)

    def change(file):
        where = array_in(file)
        values = file[where][()]
        group, key = file[os.path.dirname(where)], os.path.basename(where)
        del group[key]
        create(group, key, values)

    return rewrite(path, change)


BOTH = pytest.mark.parametrize("name", ["model.keras", "old.h5"])


@BOTH
def test_external_storage(tmp_path, name):
    secret = tmp_path / "secret"
    secret.write_bytes(RNG.normal(size=36).astype(np.float32).tobytes())

    def create(group, key, values):
        group.create_dataset(key, values.shape, values.dtype, external=[(str(secret), 0, values.nbytes)])

    assert_refused(replaced(tmp_path, name, create), "takes its data from another file")


@BOTH
def test_virtual_dataset(tmp_path, name):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["secret"] = RNG.normal(size=(3, 3, 1, 4)).astype(np.float32)

    def create(group, key, values):
        layout = h5py.VirtualLayout(values.shape, values.dtype)
        layout[...] = h5py.VirtualSource(tmp_path / "secret.h5", "secret", values.shape, values.dtype)
        group.create_virtual_dataset(key, layout)

    assert_refused(replaced(tmp_path, name, create), "takes its data from another file")


@BOTH
def test_compressed(tmp_path, name):
    """The array has the right shape, but a chunk may unpack to anything."""
    path = replaced(tmp_path, name, lambda group, key, v: group.create_dataset(key, data=v, compression="gzip"))
    assert_refused(path, "compressed", "h5repack")


@BOTH
def test_huge_array_is_not_read(tmp_path, name):
    def create(group, key, values):
        group.create_dataset(key, (10**6, 10**6), "float32", chunks=(1000, 1000))

    target = network(seed=2)
    assert load_weights(target, replaced(tmp_path, name, create)) == ["conv1"]


@BOTH
@pytest.mark.parametrize("kind", ["objects", "references", "text", "complex", "compound"])
def test_types(tmp_path, name, kind):
    dtype = {
        "objects": h5py.vlen_dtype(np.float32),
        "references": h5py.ref_dtype,
        "text": h5py.string_dtype(),
        "complex": np.dtype("complex64"),
        "compound": np.dtype([("a", "f4")]),
    }[kind]
    path = replaced(tmp_path, name, lambda group, key, values: group.create_dataset(key, values.shape, dtype))
    assert_refused(path, "not float16, float32 or float64")


def test_integers_are_no_weights(tmp_path):
    path = replaced(tmp_path, "model.keras", lambda group, key, v: group.create_dataset(key, v.shape, "int32"))
    assert load_weights(network(), path) == ["conv1"]


@BOTH
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_not_finite(tmp_path, name, value):
    def create(group, key, values):
        values = values.astype(np.float64)
        values[1, 1, 0, 2] = value
        group[key] = values

    layer = "layers/conv2d/vars/0" if name == "model.keras" else "model_weights/conv1/conv1/kernel:0"
    assert_refused(replaced(tmp_path, name, create), layer, "for conv1", "not finite")


@pytest.mark.parametrize("names", [np.zeros(3), np.array([b"none"]), np.array([b"../.."]), np.array([b"\xff"])])
def test_wrong_layer_names(tmp_path, names):
    path = save_keras2(network(), tmp_path / "old.h5")
    assert_refused(rewrite(path, lambda file: file["model_weights"].attrs.__setitem__("layer_names", names)))


def test_data_where_groups_belong(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("layers", (10**9, 10**6), "float32", chunks=(1000, 1000))
    assert_refused(tmp_path / "a.h5", "'/layers' is a Dataset, not a Group")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["layers/loop"] = file["/"]  # the group contains itself
        file["layers/vars"] = file["layers"]
    assert_refused(tmp_path / "b.h5")


@pytest.mark.parametrize("name", ["model.keras", "model.weights.h5", "old.h5"])
def test_truncated(tmp_path, name):
    path = (save_keras2 if name == "old.h5" else save)(network(), tmp_path / name)
    data = path.read_bytes()
    for length in (0, 3, 8, 100, 1000, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        assert_refused(path)


def test_damaged_archive(tmp_path):
    """The archive's checksum shows one wrong byte in the weights."""
    path = save(network(), tmp_path / "model.keras")
    data = bytearray(path.read_bytes())
    data[data.index(b"\x89HDF") + 5000] ^= 1
    path.write_bytes(data)
    assert_refused(path, "truncated or damaged")


@pytest.mark.parametrize("name", ["model.keras", "model.weights.h5", "old.h5"])
def test_crafted_file_that_never_returns(tmp_path, monkeypatch, name):
    """The heap of texts has free space of length zero, so HDF5 reads the same place for ever."""
    path = (save_keras2 if name == "old.h5" else save)(network(), tmp_path / name)

    def craft(data):
        heap = data.index(b"GCOL")
        return data[: heap + 16] + bytes(16) + data[heap + 32 :]

    if name == "model.keras":
        with zipfile.ZipFile(path) as archive:
            weights = archive.read("model.weights.h5")
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("model.weights.h5", craft(weights))
    else:
        path.write_bytes(craft(path.read_bytes()))
    monkeypatch.setattr("host_tools.networks.hdf5._DEADLINE_S", 3.0)
    began = time.monotonic()
    assert_refused(path, "not read after 3 s")
    assert time.monotonic() - began < 20
