"""Handlers that change or watch how a model is trained."""
