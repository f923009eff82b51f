"""Errors of the workstation tools."""

from pathlib import Path

from kws_edge.errors import KwsError


class DatasetError(KwsError):
    """A folder of recordings or features is missing, is incomplete or has another layout."""


class BusyError(KwsError):
    """Another process writes to the folder."""


class WorkerError(KwsError):
    """A process died in the middle of its work."""


class TrainingError(KwsError):
    """Training or conversion cannot start or go on."""


class DevicesError(KwsError):
    """Devices or machines cannot train together, or one of the machines has ended."""


class RecipeError(KwsError):
    """A recipe is wrong, or one of its stages fails."""


class SweepError(KwsError):
    """A sweep is wrong, or its trials fail."""


def broken(path: Path, error: Exception) -> TrainingError:
    """The error that says why a file of a run cannot be used."""
    reason = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split()) or type(error).__name__
    return TrainingError(f"{path}: broken ({reason[:200]})")
