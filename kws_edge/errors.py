"""Every error that kws_edge raises on purpose.

::

    KwsError
    ├── ConfigError   a front-end or detector setting that cannot work
    ├── ModelError    a model file that is broken, of the wrong kind, or contradicts itself
    ├── RuntimeUnavailableError   no TFLite runtime can be loaded
    └── AudioError    a file, device or stream that gives no usable audio

The message names the value or the file and says what to do; the command line prints it as one line and exits with
status 1. Anything else that escapes is a defect of this package.
"""


class KwsError(Exception):
    """Base of the package's errors."""


class ConfigError(KwsError, ValueError):
    """A setting that is out of range or contradicts another one."""


class ModelError(KwsError):
    """A model file that cannot be used."""


class RuntimeUnavailableError(KwsError):
    """No usable TFLite runtime is installed."""


class AudioError(KwsError):
    """Audio that cannot be opened, decoded or captured."""
