"""Sources of samples: files, byte streams and microphones. Each is a :class:`kws_edge.Source`."""
