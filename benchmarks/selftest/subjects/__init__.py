"""What is tested: a pair of actors, the memory that they take, and the reward of their runs."""
