"""The loop at each number of rollout actors, and where the next one stops paying."""
