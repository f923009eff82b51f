"""The service that runs for months: rooms hear, outputs tell, commands change what is heard."""
