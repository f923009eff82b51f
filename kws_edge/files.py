"""Files: writing them so that an interruption leaves the old one or the new one, and their checksums."""

from __future__ import annotations

import os
from collections.abc import Callable

try:  # hashlib would load OpenSSL, 3.5 MB that the device has no other use for
    from _sha2 import sha256
except ImportError:
    try:
        from _sha256 import sha256  # Python 3.11 and earlier
    except ImportError:
        from hashlib import sha256

__all__ = ["sha256_hex", "write_atomically"]


def sha256_hex(data: bytes) -> str:
    """SHA-256 of `data` in hexadecimal."""
    return sha256(data).hexdigest()


def write_atomically(path: str | os.PathLike[str], write: Callable[[str], object]) -> None:
    """Call ``write(temporary_path)``, then move what it wrote to `path`.

    The temporary file lies beside `path` and ends as it does, so that writers that look at the ending work.
    """
    import tempfile

    parent, name = os.path.split(os.path.abspath(path))
    os.makedirs(parent, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=".kws-") as folder:
        temporary = os.path.join(folder, name)
        write(temporary)
        os.replace(temporary, path)
