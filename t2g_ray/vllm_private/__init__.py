"""The only package that uses what vLLM does not document; all others call its functions."""
