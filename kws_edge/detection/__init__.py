"""From posteriors to detections, and the settings that decide."""
