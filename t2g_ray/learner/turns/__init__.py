"""A learner rank that takes turns with an engine on one device."""
