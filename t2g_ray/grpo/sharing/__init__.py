"""A device that a learner and an engine share: whose turn it is."""
