"""Samples -> one optimiser step by DeepSpeed ranks."""
