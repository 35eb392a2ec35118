"""The checks by what they show: agreement, weights that arrive, devices, whole runs, speed."""
