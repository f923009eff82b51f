"""What the MQTT output is made of: a connection to a broker, and what Home Assistant is told."""
