"""The only package that knows what vLLM does not document; all others call its functions."""
