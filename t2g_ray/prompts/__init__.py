"""Records -> prompts, and the order in which prompts are drawn."""
