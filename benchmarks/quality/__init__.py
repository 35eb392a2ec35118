"""How much each choice changes held-out F1, over seeds."""
