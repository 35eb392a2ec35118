"""Records: where they come from, how they are checked, and which prompt is next."""
