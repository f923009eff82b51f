"""Write exports to a folder, with a manifest of the files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from firmware_export.export import Export
from firmware_export.folder import sole_writer, write_files
from kws_edge.errors import ConfigError
from kws_edge.files import explained
from kws_edge.text import decode, parse_json

__all__ = ["MANIFEST", "write"]

MANIFEST = "kws_export.json"
"""The file in an exported folder that lists the exported files."""


def write(export: Export, folder: str | Path, *, force: bool = False) -> None:
    """Write the files of `export` and a manifest of them into a folder.

    An earlier export in the folder is replaced. Other files stay.

    Parameters
    ----------
    export : Export
    folder : path
        Created if it does not exist.
    force : bool
        Overwrite files that were changed since their export.

    Raises
    ------
    ConfigError
        If this would overwrite a file that was not exported there or was changed since, unless `force`. Also if another
        process exports to the folder.
    WriteError
        If the folder cannot be written. It then stays unchanged.
    """
    folder = Path(folder)
    written = {path: _sha256(text.encode()) for path, text in export.files.items()}
    texts = export.files | {MANIFEST: json.dumps({**export.summary, "files": written}, indent=1) + "\n"}
    with sole_writer(folder) as new:
        known = _exported(folder / MANIFEST)
        changed = sorted(
            path
            for path in {*export.files, *known}
            if _checksum(folder / path) not in (None, known.get(path), written.get(path))
        )
        if changed and not force:
            others = f" and {len(changed) - 3} others" if len(changed) > 3 else ""
            raise ConfigError(
                f"{folder}: {', '.join(changed[:3])}{others} would be replaced or removed, and were changed since "
                "their export or not exported; move them away, or give --force"
            )
        write_files(folder, texts, new=new)
        for path in known.keys() - export.files.keys():
            with explained(folder / path):
                (folder / path).unlink(missing_ok=True)


def _exported(manifest: Path) -> dict[str, str]:
    """The files of an earlier export, with their checksums."""
    data = _content(manifest)
    if data is None:
        return {}
    try:
        files = parse_json(decode(data))["files"]
        if any(Path(path).is_absolute() or ".." in Path(path).parts or not path.isprintable() for path in files):
            raise ValueError("a file outside the folder")
        return {str(path): str(checksum) for path, checksum in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"{manifest}: is no manifest of an export; move it away, or export elsewhere") from None


def _checksum(path: Path) -> str | None:
    """The checksum of a file; None if the file does not exist."""
    data = _content(path)
    return None if data is None else _sha256(data)


def _content(path: Path) -> bytes | None:
    """The content of a file; None if the file does not exist.

    Raises
    ------
    ConfigError, WriteError
        If the path is not a file, or cannot be read.
    """
    with explained(path):
        if not path.exists():
            return None
        if not (path.is_file() or path.is_dir()):
            raise ConfigError(f"{path}: is a pipe or a device; move it away")
        return path.read_bytes()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
