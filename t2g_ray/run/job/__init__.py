"""What travels with a job to a cluster, and what never does."""
