"""What a step will take: time by component, tokens a second, and the side that holds it up."""
