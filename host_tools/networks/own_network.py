"""Your own network: ``module:function``, imported from the current folder.

The function is called as ``function(input_shape, classes)``. It also gets ``width`` and ``frontend_config`` if it takes
them by name or as ``**kw``. It returns a ``keras.Model`` of layers, from levels of the front end to a softmax.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import keras
import numpy as np

from host_tools.errors import TrainingError
from kws_edge.config import FrontendConfig
from kws_edge.files import sha256_hex

__all__ = ["build_own", "import_own", "is_own", "source_of"]


def is_own(name: str) -> bool:
    """Whether `name` has the form ``module:function``."""
    return ":" in name


def import_own(name: str) -> ModuleType:
    """Import the module of ``module:function``. Layers that it registers can be loaded then.

    Raises
    ------
    TrainingError
        If there is no such module, or it cannot be imported. The message names the line that fails.
    """
    module, _, function = name.partition(":")
    if not all(re.fullmatch(r"\w+(\.\w+)*", part) for part in (module, function)) or module.endswith(".py"):
        raise TrainingError(f"network {name!r}: expected MODULE:FUNCTION, for net.py with a function build: net:build")
    with _current_folder(), _theirs(name):
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            if not error.name or not f"{module}.".startswith(f"{error.name}."):
                raise  # the user's module imports this missing one
            raise TrainingError(
                f"network {name}: there is no module {error.name} in {os.getcwd()}; run this in the folder that has it"
            ) from None


def source_of(name: str) -> dict[str, str]:
    """The path of the module of ``module:function``, and the checksum of its text."""
    path = import_own(name).__file__ or ""
    return {"file": path, "sha256": sha256_hex(Path(path).read_bytes()) if os.path.isfile(path) else ""}


def build_own(name: str, config: FrontendConfig, n_classes: int, *, width: float = 1.0) -> keras.Model:
    """The network that ``module:function`` makes.

    It is checked for its shapes, its softmax, and whether it can be saved and loaded.

    Raises
    ------
    TrainingError
        If the module or function is missing, the function fails, or the network is not usable. If the function fails,
        the message names its line.
    """
    module, (_, _, called) = import_own(name), name.partition(":")
    function = getattr(module, called, None)
    if not callable(function):
        raise TrainingError(f"network {name}: {module.__file__} has no function {called}")
    shape = (*config.feature_shape, 1)
    options = {k: v for k, v in (("width", width), ("frontend_config", config)) if _takes(function, k)}
    if width != 1 and "width" not in options:
        raise TrainingError(f"network {name}: takes no width, got --width {width:g}")
    with _current_folder(), _theirs(name, module.__file__):
        model = function(shape, n_classes, **options)
        if isinstance(model, keras.Sequential) and not model.built:
            model.build((None, *shape))
    _check(f"network {name}", model, shape, n_classes, config.level_range)
    return model


def _takes(function: Callable, name: str) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some functions written in C have no signature
        return False
    return any(p.kind is p.VAR_KEYWORD or p.name == name for p in parameters)


def _check(what: str, model: object, shape: tuple[int, ...], n_classes: int, levels: tuple[float, float]) -> None:
    if not isinstance(model, keras.Model):
        raise TrainingError(f"{what}: the function returns {type(model).__name__}, not a keras.Model")
    inputs, outputs = (getattr(model, kind, None) or [] for kind in ("inputs", "outputs"))
    if not inputs:
        raise TrainingError(f"{what}: is a class of its own; make it of layers, by keras.Model(inputs, outputs)")
    for kind, tensors, expected in (("input", inputs, shape), ("output", outputs, (n_classes,))):
        if [tuple(tensor.shape) for tensor in tensors] != [(None, *expected)]:
            found = ", ".join(str(tuple(tensor.shape)[1:]) for tensor in tensors)
            raise TrainingError(f"{what}: its {kind} has the shape {found} where {expected} is expected")
    x = np.random.default_rng(0).uniform(*levels, (2, *shape)).astype(np.float32)
    y = keras.ops.convert_to_numpy(model(x, training=False))
    if not (y >= 0).all() or not np.allclose(y.sum(axis=1), 1, atol=1e-3):
        raise TrainingError(f"{what}: its outputs are no posteriors; end it in layers.Dense(classes, 'softmax')")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "network.keras")
        try:
            keras.models.clone_model(model).save(path)
            keras.models.load_model(path, compile=False)
        except Exception as error:  # a user's own layer may raise anything
            raise TrainingError(
                f"{what}: cannot be saved and loaded again ({_first_line(error)}); a layer of your own needs get_config"
                " and @keras.saving.register_keras_serializable(), and a Lambda must become one"
            ) from None


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]


@contextlib.contextmanager
def _current_folder() -> Iterator[None]:
    """Look for modules in the current folder first."""
    folder = os.getcwd()
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)


@contextlib.contextmanager
def _theirs(name: str, file: str | None = None) -> Iterator[None]:
    """Turn an error of the user's code into one line that names the user's line.

    That is the innermost line in `file` or below the current folder. Without such a line, the network `name` is named.
    """
    try:
        yield
    except TrainingError:
        raise
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        if isinstance(error, SyntaxError) and error.filename:
            frames.append(traceback.FrameSummary(error.filename, error.lineno, "<module>", line=error.text or ""))
        own = [f for f in frames if f.filename == file] or [f for f in frames if f.filename.startswith(os.getcwd())]
        where = f"network {name}"
        if own:
            _, line, function, text = own[-1]
            where = f"{own[-1].filename}, line {line}" + (f", in {function}" if function != "<module>" else "")
            where += f": {(text or '').strip()}"
        raise TrainingError(f"{where}: {type(error).__name__}: {error}") from None
