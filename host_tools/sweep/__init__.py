"""Sweeps: trials of a recipe that differ in some of its options, and the best of them."""
