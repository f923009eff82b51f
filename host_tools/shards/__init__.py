"""Features of a corpus in shards: files that are written once, and that training reads a window at a time."""
