"""Models <-> their files, a tensor at a time."""
