"""Held-out scores, apart from everything that trains."""
