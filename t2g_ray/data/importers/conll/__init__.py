"""CoNLL layouts: a line a token."""
