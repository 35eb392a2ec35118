"""What choices are worth in held-out F1, over seeds."""
