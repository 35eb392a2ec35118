"""Completion text and record -> one finite reward with its named parts."""
