"""How a run shows outside its folder: trackers, and Ray's metrics for Prometheus."""
