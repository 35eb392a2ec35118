"""Tokens, groups, requests or bytes a second, one module a measurement."""
