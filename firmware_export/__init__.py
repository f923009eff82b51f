"""From a model file to what a firmware engineer flashes."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from firmware_export.c_array import write_c_array
del TYPE_CHECKING

__all__ = ["write_c_array"]


def __getattr__(name: str) -> object:
    """What writes arrays is loaded by those who use it: the command is to start before it loads NumPy."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from firmware_export import c_array

    return getattr(c_array, name)
