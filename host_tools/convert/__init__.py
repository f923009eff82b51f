"""From weights to model files."""
