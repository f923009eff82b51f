"""Where a training computes: one device, or several that share each batch, on one machine or more."""
