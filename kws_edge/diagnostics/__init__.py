"""Measurements of speed and of signals, and of what disturbs them."""
