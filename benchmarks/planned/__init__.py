"""What a machine does in a second, and whether a plan from it comes true."""
