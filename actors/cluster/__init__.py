"""Configuration -> running actors: placement, start, typed calls and their deadlines."""
