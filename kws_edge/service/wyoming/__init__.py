"""What the Wyoming output is made of: frames, sessions, a server, and its announcement on the network."""
