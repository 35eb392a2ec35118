"""Attention over sequences of unlike length without padding."""
