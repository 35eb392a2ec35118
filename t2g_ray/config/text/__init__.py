"""Text of configurations -> plain values, and what is wrong with it in words."""
