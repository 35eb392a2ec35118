"""Synthetic data: texts in, records with graphs by a teacher out."""
