"""What a batch of training is made of."""
