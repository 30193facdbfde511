"""Handlers that average the weights of a model."""
