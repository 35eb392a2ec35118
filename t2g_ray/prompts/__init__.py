"""Records -> prompts, and which one is next."""
