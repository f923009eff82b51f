"""Networks, their weights, and their quantised arithmetic."""
