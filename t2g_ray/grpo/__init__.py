"""The GRPO loop: the order of a step, what guards it, and what is kept of it."""
