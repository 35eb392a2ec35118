"""Configuration, model and cluster -> what a run will need and give, before anything starts."""
