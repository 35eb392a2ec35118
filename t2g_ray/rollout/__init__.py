"""Prompts -> groups of completions, by a vLLM engine."""
