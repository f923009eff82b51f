"""Front ends: what a network is given for some samples."""
