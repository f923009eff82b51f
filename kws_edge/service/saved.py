"""Changes of what rooms listen for, kept over restarts."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from kws_edge.errors import ConfigError
from kws_edge.files import write_atomically
from kws_edge.service.tuning import Tuning
from kws_edge.text import parse_json, read_text

__all__ = ["changes_path", "load_changes", "save_changes"]


def changes_path(folder: str | None) -> str:
    """The file of saved changes: in `folder`, or else in systemd's state folder, or the user's."""
    state = os.environ.get("XDG_STATE_HOME", "")
    own = os.path.join(state if os.path.isabs(state) else os.path.expanduser("~/.local/state"), "kws-edge")
    return os.path.join(folder or os.environ.get("STATE_DIRECTORY") or own, "changes.json")


def load_changes(path: str) -> dict[str, Tuning]:
    """The saved changes of each room, by its name; none if there is no file.

    Raises
    ------
    ConfigError
        If the file cannot be used.
    """
    try:
        values = parse_json(read_text(path))
        if not isinstance(values, dict):
            raise ConfigError("it holds no rooms")
        return {room: Tuning.from_dict(one) for room, one in values.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:  # a ConfigError is a ValueError
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path}: saved changes cannot be used ({why}); remove the file") from None


def save_changes(path: str, changes: Mapping[str, Tuning]) -> None:
    """Write the changes of each room, whole or not at all.

    Raises
    ------
    WriteError
        If the file cannot be written.
    """
    values = {room: tuning.to_dict() for room, tuning in changes.items()}
    write_atomically(path, json.dumps(values, indent=1) + "\n", durable=True)
