"""Turn a model file into firmware sources for a microcontroller."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from firmware_export.c_array import write_c_array
del TYPE_CHECKING

__all__ = ["write_c_array"]


def __getattr__(name: str) -> object:
    """Load the functions when they are first used, so that the command starts before it loads NumPy."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from firmware_export import c_array

    return getattr(c_array, name)
