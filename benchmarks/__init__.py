"""What a layout gives on this machine: one module a benchmark, each with `run(...)`."""
