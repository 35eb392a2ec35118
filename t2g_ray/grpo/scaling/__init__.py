"""How many rollout actors a run should have."""
