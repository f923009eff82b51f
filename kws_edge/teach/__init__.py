"""Words that a device learns from a few recordings."""
