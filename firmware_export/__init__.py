"""From a model file to what a firmware engineer flashes."""

from firmware_export.c_array import write_c_array

__all__ = ["write_c_array"]
