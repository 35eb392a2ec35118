"""The loop's stages on Ray actors: groups, trainer, weights, evaluation, scaling."""
