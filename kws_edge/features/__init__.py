"""Front ends: they turn samples into the input of a network."""
