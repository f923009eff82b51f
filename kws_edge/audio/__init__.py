"""Where samples come from: files, streams of bytes, microphones; each a :class:`kws_edge.Source`."""
