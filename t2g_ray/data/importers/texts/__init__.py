"""Layouts whose annotations are texts or character offsets."""
