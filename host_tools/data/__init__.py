"""Recordings: where they come from, what is said in them, and their features."""
