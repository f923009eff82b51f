"""Work on several machines, by Ray. The extra ``cluster`` brings it; nothing is loaded before it is used."""
