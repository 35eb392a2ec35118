"""Learner -> samplers: what is sent, how it travels, and the proof that it arrived."""
