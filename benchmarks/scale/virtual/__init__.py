"""The loop of a run in a world of simulated engines, on a clock that waits for nobody."""
