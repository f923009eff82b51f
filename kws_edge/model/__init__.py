"""Model files, their contents, and the runtimes that run them."""
