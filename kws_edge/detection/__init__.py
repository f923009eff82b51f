"""Detections from posteriors, and the settings for this."""
