"""Where a run keeps its files: a folder that all nodes share, or any URL that fsspec knows."""
