"""Commands about the machine: what it has, and what it does."""
