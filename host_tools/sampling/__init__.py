"""Makes batches for training: words, noise, speech, and augmentation."""
