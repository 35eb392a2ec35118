"""One way to load a policy, to decode, and to compute packed rows."""
