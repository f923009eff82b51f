"""Recipes: from data to a shipped model, as data. A recipe is a TOML file, its stages are commands of ``kws-host``."""
