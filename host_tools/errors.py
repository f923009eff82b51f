"""Errors of the workstation tools."""

from kws_edge.errors import KwsError


class DatasetError(KwsError):
    """A folder of recordings or features is missing, is incomplete or has another layout."""


class BusyError(KwsError):
    """Another process writes to the folder."""


class WorkerError(KwsError):
    """A process died in the middle of its work."""


class TrainingError(KwsError):
    """Training or conversion cannot start or go on."""


class RecipeError(KwsError):
    """A recipe is wrong, or one of its stages fails."""
