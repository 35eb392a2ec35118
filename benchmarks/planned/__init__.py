"""What a machine does in a second, what a run holds, and whether plans come true."""
