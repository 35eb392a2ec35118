"""Figures and drawings of the report, as plain data and SVG."""
