"""The outputs of the service. Each is a module of its own, and loads only if the configuration has its section."""
