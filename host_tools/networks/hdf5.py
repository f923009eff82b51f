"""Reads weights from HDF5 files in a process of its own: ``python -m host_tools.networks.hdf5``.

The HDF5 library trusts its files. A hostile file may keep the library busy for ever, or crash it. So the process has a
deadline and a limit of memory. It takes a request, a line of JSON, on standard input. On standard output it gives a
line of JSON and then the weights as float32.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

from host_tools.errors import TrainingError

if sys.platform != "win32":
    import resource

__all__ = ["Layer", "read_weights"]

_SUFFIXES = (".keras", ".weights.h5", ".h5", ".hdf5")
_ARCHIVED = "model.weights.h5"
_MAX_LAYERS, _MAX_ARRAYS = 10_000, 100  # far above any network of ours
_DEADLINE_S = 30.0
_MEMORY = 2**32  # bytes of address space
_DAMAGE = (  # what h5py and zipfile raise on a damaged file
    *(OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, OverflowError, MemoryError),
    *(zipfile.BadZipFile, zlib.error),
)


@dataclass(frozen=True)
class Layer:
    """A layer with weights, in a network or in a file."""

    name: str
    kind: str
    """The layer's class in lower case; empty if the file does not name it."""
    shapes: list[tuple[int, ...]]
    arrays: tuple[h5py.Dataset, ...] = ()
    """In a file: where the weights are."""

    @property
    def likeness(self) -> tuple:
        """The properties that two layers must share to be paired by order."""
        return self.kind, [len(shape) for shape in self.shapes]


def read_weights(path: Path, layers: Sequence[Layer], *, limit: int) -> dict[int, list[NDArray[np.float32]]]:
    """Weights of a file for the layers of a network; see :func:`host_tools.networks.weight_import.load_weights`.

    Parameters
    ----------
    path : path
    layers : sequence of Layer
        Layers of the network.
    limit : int
        Most bytes that the file may have, packed or unpacked.

    Returns
    -------
    dict
        Float32 arrays of each layer that the file has weights for, by the layer's number.

    Raises
    ------
    TrainingError
        If the file has no such weights, is damaged or may be harmful. The message does not name the file.
    """
    wanted = [(layer.name, layer.kind, layer.shapes) for layer in layers]
    request = json.dumps({"path": os.fsencode(path).hex(), "layers": wanted, "limit": limit})
    here = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "OPENBLAS_NUM_THREADS": "1",  # each thread would reserve memory
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "host_tools.networks.hdf5"],
            input=request.encode(),
            capture_output=True,
            timeout=_DEADLINE_S,
            env=here,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TrainingError(f"damaged (not read after {_DEADLINE_S:g} s); get a whole copy") from None
    head, _, values = done.stdout.partition(b"\n")
    if done.returncode or not head:
        reason = f"signal {-done.returncode}" if done.returncode < 0 else f"exit status {done.returncode}"
        raise TrainingError(f"truncated or damaged (its reader ended with {reason}); get a whole copy")
    answer = json.loads(head)
    if problem := answer.get("problem"):
        raise TrainingError(problem)
    weights: dict[int, list[NDArray[np.float32]]] = {}
    at = 0
    for number in answer["layers"]:
        weights[number] = []
        for shape in layers[number].shapes:
            size = 4 * int(np.prod(shape))
            weights[number].append(np.frombuffer(values[at : at + size], np.float32).reshape(shape))
            at += size
    return weights


def _answer(request: dict[str, Any], output: BinaryIO) -> None:
    layers = [Layer(name, kind, [tuple(shape) for shape in shapes]) for name, kind, shapes in request["layers"]]
    path, limit = Path(os.fsdecode(bytes.fromhex(request["path"]))), request["limit"]
    values: list[NDArray[np.float32]] = []
    try:
        with h5py.File(_hdf5(path, limit), "r") as file:
            pairs = _pairs(layers, [layer for layer in _saved_layers(file) if layer.shapes])
            values = [_read(array, layers[number].name) for number, found in pairs for array in found.arrays]
        answer: dict[str, Any] = {"layers": [number for number, _ in pairs]}
    except TrainingError as error:
        answer = {"problem": str(error)}
    except PermissionError as error:
        answer = {"problem": error.strerror}
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        answer = {"problem": f"truncated or damaged ({reason}); get a whole copy"}
    output.write(json.dumps(answer).encode() + b"\n")
    if "layers" in answer:
        for value in values:
            output.write(value.tobytes())


def _hdf5(path: Path, limit: int) -> Path | io.BytesIO:
    """The HDF5 data: the file itself, or data in memory that were unpacked from an archive."""
    if not path.name.lower().endswith(_SUFFIXES):
        raise TrainingError(f"unknown format; weights are read from {', '.join(_SUFFIXES)}")
    if not path.is_file():
        raise TrainingError("no such file")
    if path.stat().st_size > limit:
        raise TrainingError(f"has {path.stat().st_size:,} bytes, but weights for this network at most {limit:,}")
    with path.open("rb") as file:
        start = file.read(8)
    if start == b"\x89HDF\r\n\x1a\n":
        return path  # also if it is named .keras: Keras before 2.12 wrote HDF5 under that name
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


def _saved_layers(file: h5py.File) -> Iterator[Layer]:
    """Layers in the file, in their order. Keras 3's layout keeps only the order of layers of the same class."""
    root = _child(file, "model_weights") if "model_weights" in list(file) else file
    names = _texts(root, "layer_names")
    for name in names[:_MAX_LAYERS]:
        group = _child(root, name)
        yield _layer(name, "", _arrays(group, _texts(group, "weight_names")))
    containers = {"layers", "_layer_checkpoint_dependencies"} & set(file)  # the latter: Keras 2.12 and 2.13
    for container in () if names else sorted(containers):
        groups = _child(file, container)
        for key in sorted(groups, key=_natural)[:_MAX_LAYERS]:
            group = _child(groups, key)
            if "vars" in list(group):
                variables = _child(group, "vars")
                name = "".join(_texts(variables, "name")) or key  # older versions did not store it
                kind = re.sub(r"_\d+$", "", key).replace("_", "")
                yield _layer(name, kind, _arrays(variables, sorted(variables, key=_natural)))


def _layer(name: str, kind: str, arrays: tuple[h5py.Dataset, ...]) -> Layer:
    return Layer(name, kind, [tuple(array.shape) for array in arrays], arrays)


def _natural(name: str) -> list:
    """Sort key that puts 10 after 9."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", name))]


def _child(parent: h5py.Group, path: str, kind: type = h5py.Group) -> h5py.Group | h5py.Dataset:
    """The object at `path`. Links are refused, which h5py would follow."""
    for name in filter(None, path.split("/")):
        if parent.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
            raise TrainingError(f"{name!r} in {parent.name!r} is a link; only data in the file itself are read")
        parent = parent[name]
    if not isinstance(parent, kind):
        raise TrainingError(f"{parent.name!r} is a {type(parent).__name__}, not a {kind.__name__}")
    return parent


def _texts(group: h5py.Group, name: str) -> list[str]:
    """Strings of an attribute. Keras spreads a large one over ``<name>0``, ``<name>1`` and so on.

    HDF5 believes the length that a string claims, up to 4 GiB. It allocates this memory before it finds the file wrong.
    """
    numbered = [f"{name}{i}" for i in range(len(group.attrs))]
    found = []
    for key in [name] if name in group.attrs else filter(group.attrs.__contains__, numbered):
        attribute = group.attrs.get_id(key)
        if 0 in attribute.shape:
            continue  # without a check of its type: Keras writes an empty list of names as float64
        if attribute.get_storage_size() > 2**20:
            raise TrainingError(f"the attribute {key} of {group.name!r} is too large")
        if attribute.dtype.kind != "S" and not h5py.check_string_dtype(attribute.dtype):
            raise TrainingError(f"the attribute {key} of {group.name!r} holds {attribute.dtype}, not text")
        texts = np.asarray(group.attrs[key]).ravel().tolist()
        found += [text.decode() if isinstance(text, bytes) else text for text in texts]
    return found


def _arrays(group: h5py.Group, names: list[str]) -> tuple[h5py.Dataset, ...]:
    """Datasets of a layer, checked but not read. Empty if a dataset holds integers, such as the seed of a dropout."""
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


def _pairs(layers: Sequence[Layer], saved: list[Layer]) -> list[tuple[int, Layer]]:
    """Numbers of the network's layers, each with the layer of the file that sets it."""
    if not saved:
        raise TrainingError("holds no weights of layers")
    if not any(layer.kind for layer in saved):
        layers = [replace(layer, kind="") for layer in layers]
    names = {layer.name: layer for layer in saved}
    by_name = [(i, names[layer.name]) for i, layer in enumerate(layers) if layer.name in names]
    own = sorted(range(len(layers)), key=lambda i: layers[i].likeness)
    other = sorted(saved, key=lambda layer: layer.likeness)
    alike = [layers[i].likeness for i in own] == [layer.likeness for layer in other]
    by_order = list(zip(own, other, strict=True)) if alike else []
    pairs = max(([(i, b) for i, b in each if layers[i].shapes == b.shapes] for each in (by_name, by_order)), key=len)
    if not pairs:
        first = layers[0]
        found = names.get(first.name, saved[0])
        raise TrainingError(
            f"none of its {len(saved)} layers with weights fits: the network's {first.name} has the shapes "
            f"{first.shapes}, the file's {found.name!r} {found.shapes}; build the network that it was written for"
        )
    return pairs


def _read(array: h5py.Dataset, layer: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        values = array[()].astype(np.float32)
    if not np.isfinite(values).all():
        raise TrainingError(f"{array.name!r}, for {layer}, has values that are not finite; take an earlier checkpoint")
    return values


def _main() -> None:
    if sys.platform != "win32":
        for kind, most in ((resource.RLIMIT_AS, _MEMORY), (resource.RLIMIT_CORE, 0)):
            hard = resource.getrlimit(kind)[1]
            with suppress(ValueError, OSError):  # the system may lack this limit
                resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    _answer(json.loads(sys.stdin.buffer.readline()), sys.stdout.buffer)


if __name__ == "__main__":
    _main()
