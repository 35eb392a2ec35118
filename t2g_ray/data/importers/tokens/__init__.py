"""Layouts whose annotations count tokens."""
