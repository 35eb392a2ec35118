"""What this machine has, what a configuration would take of it, and what it does."""
