"""How a change of a model's outputs goes back to its inner values: reverse-mode differentiation, as operators."""
