"""Errors of the workstation tools."""

from kws_edge.errors import KwsError


class DatasetError(KwsError):
    """A folder of recordings or features that is missing, incomplete or of another layout."""


class BusyError(KwsError):
    """A folder that another process writes to."""


class WorkerError(KwsError):
    """A process that died in the middle of its work."""


class TrainingError(KwsError):
    """Training or conversion that cannot start or go on."""


class RecipeError(KwsError):
    """A recipe that cannot be followed."""
