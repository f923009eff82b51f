"""Weights from one network into another, and from files of every Keras format.

A file may come from anywhere, so only its arrays are used: its configuration is never looked at (Keras would build what
it names, and run the code in it), nothing is unpacked to disk, and HDF5's ways out of the file (links, external and
virtual data) are refused. Arrays are checked before they are read.

The layouts are those of Keras's ``saving_lib`` (``.keras``, ``.weights.h5``) and ``legacy_h5_format`` (``.h5``).
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import keras
import numpy as np

from host_tools.errors import TrainingError

__all__ = ["load_weights", "transfer"]

_SUFFIXES = (".keras", ".weights.h5", ".h5", ".hdf5")
_ARCHIVED = "model.weights.h5"
_MAX_LAYERS, _MAX_ARRAYS = 10_000, 100  # far above any network of ours; they bound the time for a hostile file
_DAMAGE = (  # what h5py and zipfile raise on a damaged file
    *(OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, OverflowError, MemoryError),
    *(zipfile.BadZipFile, zlib.error),
)


@dataclass(frozen=True)
class _Layer:
    """A layer with weights, of a network or in a file."""

    name: str
    kind: str
    """Its class in lower case; empty where the file does not say."""
    weights: tuple[keras.Variable | h5py.Dataset, ...]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [tuple(weight.shape) for weight in self.weights]

    @property
    def likeness(self) -> tuple:
        """What layers that are paired by order have in common."""
        return self.kind, [len(shape) for shape in self.shapes]


def transfer(source: keras.Model, target: keras.Model) -> list[str]:
    """Copy the weights of every layer of `source` that `target` has by the same name and shapes.

    Returns
    -------
    list of str
        Layers of `target` with weights that were not set: their names.

    Raises
    ------
    TrainingError
        If no layer agrees.
    """
    by_name = {layer.name: layer.get_weights() for layer in source.layers}
    left = []
    layers = [layer for layer in target.layers if layer.weights]
    for layer in layers:
        weights = by_name.get(layer.name, [])
        if [w.shape for w in weights] == [tuple(w.shape) for w in layer.weights]:
            layer.set_weights(weights)
        else:
            left.append(layer.name)
    if len(left) == len(layers):
        raise TrainingError(f"{source.name} and {target.name} have no layer in common")
    return left


def load_weights(model: keras.Model, path: str | Path) -> list[str]:
    """Set the weights of `model`, which our own code built, from a file in any of Keras's formats.

    Layers of the file and of the network are paired by name, or else by order: the first convolution with the first
    convolution and so on, if both have equally many layers of every kind. Of the two, the pairing in which more layers
    agree in shape is taken, by name if they are equal. So a file of the same network loads whole, whatever its layers
    are called, and a file of a related one as far as it agrees.

    Where anything is wrong with the file, no layer is set.

    Returns
    -------
    list of str
        Layers of `model` with weights that were not set: their names.

    Raises
    ------
    TrainingError
        If the file is missing, damaged, of another format or not harmless, holds weights that are not finite, or if
        none of its layers fits.
    """
    path = Path(path)
    limit = 8 * 4 * model.count_params() + 2**26  # bytes: an optimizer keeps two more values per weight
    try:
        with h5py.File(_hdf5(path, limit), "r") as file:
            saved = [layer for layer in _saved_layers(file) if layer.weights]
            kinds = any(layer.kind for layer in saved)
            layers = [
                _Layer(layer.name, type(layer).__name__.lower() if kinds else "", tuple(layer.weights))
                for layer in model.layers
                if layer.weights
            ]
            pairs = _pairs(layers, saved)
            values = [
                (variable, _read(array, own.name))
                for own, other in pairs
                for variable, array in zip(own.weights, other.weights, strict=True)
            ]
    except TrainingError as error:
        raise TrainingError(f"{path}: {error}") from None
    except PermissionError as error:
        raise TrainingError(f"{path}: {error.strerror}") from None
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise TrainingError(f"{path}: truncated or damaged ({reason}); get a whole copy") from None
    for variable, value in values:
        variable.assign(value)
    return [layer.name for layer in layers if all(layer is not own for own, _ in pairs)]


def _hdf5(path: Path, limit: int) -> Path | io.BytesIO:
    """Where the HDF5 data are: in the file itself or, unpacked from an archive, in memory."""
    if not path.name.lower().endswith(_SUFFIXES):
        raise TrainingError(f"unknown format; weights are read from {', '.join(_SUFFIXES)}")
    if not path.is_file():
        raise TrainingError("no such file")
    if path.stat().st_size > limit:
        raise TrainingError(f"has {path.stat().st_size:,} bytes, but weights for this network at most {limit:,}")
    with path.open("rb") as file:
        start = file.read(8)
    if start == b"\x89HDF\r\n\x1a\n":
        return path  # named .keras too: Keras before 2.12 wrote HDF5 under that name
    if not start.startswith(b"PK\x03\x04"):
        raise TrainingError(f"is neither HDF5 nor a .keras archive: it starts with {start!r}")
    if path.suffix.lower() != ".keras":
        raise TrainingError("is an archive, not HDF5; if Keras wrote it, give it the suffix .keras")
    with zipfile.ZipFile(path) as archive:
        if _ARCHIVED not in archive.namelist():
            raise TrainingError(f"is an archive without {_ARCHIVED}, so Keras did not write it")
        member = archive.getinfo(_ARCHIVED)
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise TrainingError(f"{_ARCHIVED} in it is compressed in a way that Keras does not use")
        if member.file_size > limit:
            raise TrainingError(
                f"{_ARCHIVED} in it has {member.file_size:,} bytes, but weights for this network at most {limit:,}"
            )
        with archive.open(member) as file:
            return io.BytesIO(file.read(limit))


def _saved_layers(file: h5py.File) -> Iterator[_Layer]:
    """Layers in the file, in their order (in Keras 3's layout: those of a class in their order)."""
    root = _child(file, "model_weights") if "model_weights" in list(file) else file
    names = _texts(root, "layer_names")
    for name in names[:_MAX_LAYERS]:
        group = _child(root, name)
        yield _Layer(name, "", _arrays(group, _texts(group, "weight_names")))
    containers = {"layers", "_layer_checkpoint_dependencies"} & set(file)  # the latter: Keras 2.12 and 2.13
    for container in () if names else sorted(containers):
        groups = _child(file, container)
        for key in sorted(groups, key=_natural)[:_MAX_LAYERS]:
            group = _child(groups, key)
            if "vars" in list(group):
                variables = _child(group, "vars")
                name = "".join(_texts(variables, "name")) or key  # older versions did not store it
                kind = re.sub(r"_\d+$", "", key).replace("_", "")
                yield _Layer(name, kind, _arrays(variables, sorted(variables, key=_natural)))


def _natural(name: str) -> list:
    """Key to sort by that has 10 after 9."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", name))]


def _child(parent: h5py.Group, path: str, kind: type = h5py.Group) -> h5py.Group | h5py.Dataset:
    """What lies at `path`, without following links, as h5py would."""
    for name in filter(None, path.split("/")):
        if parent.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
            raise TrainingError(f"{name!r} in {parent.name!r} is a link; only data in the file itself are read")
        parent = parent[name]
    if not isinstance(parent, kind):
        raise TrainingError(f"{parent.name!r} is a {type(parent).__name__}, not a {kind.__name__}")
    return parent


def _texts(group: h5py.Group, name: str) -> list[str]:
    """Strings of an attribute, which Keras spreads over ``<name>0``, ``<name>1`` and so on if it is large.

    HDF5 believes the length that a string claims, up to 4 GiB, and allocates it before it finds that the file is wrong.
    """
    numbered = [f"{name}{i}" for i in range(len(group.attrs))]
    found = []
    for key in [name] if name in group.attrs else filter(group.attrs.__contains__, numbered):
        attribute = group.attrs.get_id(key)
        if 0 in attribute.shape:
            continue  # whatever its type: Keras writes no names as no float64
        if attribute.get_storage_size() > 2**20:
            raise TrainingError(f"the attribute {key} of {group.name!r} is too large")
        if attribute.dtype.kind != "S" and not h5py.check_string_dtype(attribute.dtype):
            raise TrainingError(f"the attribute {key} of {group.name!r} holds {attribute.dtype}, not text")
        texts = np.asarray(group.attrs[key]).ravel().tolist()
        found += [text.decode() if isinstance(text, bytes) else text for text in texts]
    return found


def _arrays(group: h5py.Group, names: list[str]) -> tuple[h5py.Dataset, ...]:
    """Datasets of a layer, checked but not read; none if it holds integers, such as the seed of a dropout."""
    if len(names) > _MAX_ARRAYS:
        return ()
    arrays = tuple(_child(group, name, h5py.Dataset) for name in names)
    for array in arrays:
        if array.is_virtual or array.external:
            raise TrainingError(f"{array.name!r} takes its data from another file; only data in the file are read")
        if array.id.get_create_plist().get_nfilters():
            raise TrainingError(f"{array.name!r} is compressed, which Keras never does; unpack with h5repack -f NONE")
        if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
            raise TrainingError(f"{array.name!r} holds {array.dtype}, not float16, float32 or float64")
    return arrays if all(array.dtype.kind == "f" for array in arrays) else ()


def _pairs(layers: list[_Layer], saved: list[_Layer]) -> list[tuple[_Layer, _Layer]]:
    """Layers of the network, each with the one in the file to set it from: see :func:`load_weights`."""
    if not saved:
        raise TrainingError("holds no weights of layers")
    names = {layer.name: layer for layer in saved}
    by_name = [(layer, names[layer.name]) for layer in layers if layer.name in names]
    own, other = (sorted(each, key=lambda layer: layer.likeness) for each in (layers, saved))
    alike = [layer.likeness for layer in own] == [layer.likeness for layer in other]
    by_order = list(zip(own, other, strict=True)) if alike else []
    pairs = max(([(a, b) for a, b in each if a.shapes == b.shapes] for each in (by_name, by_order)), key=len)
    if not pairs:
        first = layers[0]
        found = names.get(first.name, saved[0])
        raise TrainingError(
            f"none of its {len(saved)} layers with weights fits: the network's {first.name} has the shapes "
            f"{first.shapes}, the file's {found.name!r} {found.shapes}; build the network that it was written for"
        )
    return pairs


def _read(array: h5py.Dataset, layer: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        values = array[()].astype(np.float32)
    if not np.isfinite(values).all():
        raise TrainingError(f"{array.name!r}, for {layer}, has values that are not finite; take an earlier checkpoint")
    return values
