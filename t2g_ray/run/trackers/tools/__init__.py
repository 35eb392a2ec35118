"""A module for each tracker: its package is imported when a run is opened in it."""
