"""Where a rank's time goes: phases of every step in the trace, and profiles of chosen steps."""
