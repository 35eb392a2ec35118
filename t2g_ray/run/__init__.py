"""What a run leaves behind: folder, lines, checkpoints, metrics, trace, progress."""
