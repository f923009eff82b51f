"""Standard conditions: what every model is measured on, for commands by people whom it never heard."""
