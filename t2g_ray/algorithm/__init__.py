"""The mathematics: rewards -> advantages -> samples -> loss."""
