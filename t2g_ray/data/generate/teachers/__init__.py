"""What answers the requests: a vLLM engine, or an endpoint."""
