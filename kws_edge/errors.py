"""All errors that kws_edge raises on purpose.

::

    KwsError
    ├── ConfigError   a front-end or detector setting that cannot work
    │   └── UsageError   options of a command that contradict one another
    ├── ModelError    a model file that is broken, of the wrong kind, or contradicts itself
    ├── RuntimeUnavailableError   no TFLite runtime can be loaded
    ├── AudioError    a file, device or stream that gives no usable audio
    └── WriteError    a file or folder that cannot be written

The message names the value or the file, and says what to do. It is one line that any terminal can show, even if it
quotes a file. The command line prints it and exits with status 1, or 2 for wrong usage. Any other exception that
escapes is a defect of this package.
"""

from kws_edge.text import printable

_MOST = 2000


def extra(name: str) -> str:
    """Say how to install the optional dependencies called `name`, for a message. The package is not on PyPI."""
    return f"pip install '.[{name}]' in a checkout of kws-edge (of a wheel: 'FILE.whl[{name}]')"


class KwsError(Exception):
    """Base of the package's errors.

    Examples
    --------
    >>> from kws_edge import KwsError, Model
    >>> try:
    ...     model = Model("yesno")
    ... except KwsError as error:
    ...     print(str(error).partition(";")[0])
    yesno: no such file, and no shipped model of that name
    """

    def __str__(self) -> str:
        return printable(super().__str__(), most=_MOST)


class ConfigError(KwsError, ValueError):
    """A setting that is out of range or contradicts another one. This error is a `ValueError`, too.

    Examples
    --------
    >>> from kws_edge import DetectorConfig
    >>> DetectorConfig(threshold=75)
    Traceback (most recent call last):
        ...
    kws_edge.errors.ConfigError: DetectorConfig: threshold must be a number from 0.001 to 1, got 75
    """


class UsageError(ConfigError):
    """Options of a command that do not go together."""


class ModelError(KwsError):
    """A model file that cannot be used.

    Examples
    --------
    >>> from kws_edge import Model, shipped_models
    >>> Model(shipped_models()["commands12"], labels=["on", "off"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    kws_edge.errors.ModelError: ...commands12.tflite: 12 outputs, but 2 labels: on, off
    """


class RuntimeUnavailableError(KwsError):
    """No usable TFLite runtime is installed.

    Examples
    --------
    >>> from kws_edge import Model
    >>> Model(runtime="onnx")
    Traceback (most recent call last):
        ...
    kws_edge.errors.RuntimeUnavailableError: unknown runtime 'onnx'; known are auto, litert, tflite-runtime, tensorflow
    """


class AudioError(KwsError):
    """Audio that cannot be opened, decoded or captured.

    Examples
    --------
    >>> from kws_edge import AudioFile
    >>> AudioFile("missing.wav", sample_rate=16000)
    Traceback (most recent call last):
        ...
    kws_edge.errors.AudioError: missing.wav: no such file
    """


class WriteError(KwsError):
    """A file or folder that cannot be written."""
