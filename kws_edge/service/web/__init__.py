"""The web page: an HTTP server, who may use it, and what it shows."""
