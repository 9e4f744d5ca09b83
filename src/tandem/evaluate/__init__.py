"""How good a model is: metrics on plain arrays."""
