"""Recipes lead from data to a shipped model. A recipe is a TOML file. Its stages are commands of ``kws-host``."""
