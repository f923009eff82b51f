"""ESPHome component for tests: a microphone that plays a recording."""
