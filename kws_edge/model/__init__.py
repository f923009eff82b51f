"""Model files: what they hold, and the runtime that runs them."""
