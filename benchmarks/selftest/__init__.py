"""What a machine must show before anyone trains on it: small checks, one verdict each."""
