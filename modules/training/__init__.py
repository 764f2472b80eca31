"""Training and tuning of a model family."""
