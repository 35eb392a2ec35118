"""Text in, graph out: what is computed. Nothing in this package places work on a cluster."""

__version__ = "0.1.0"
