"""What the nodes of a run share, and what each of them fetches."""
