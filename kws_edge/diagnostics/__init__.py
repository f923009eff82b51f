"""What the machine, the microphone and the clock say about a measurement."""
