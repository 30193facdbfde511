"""Handlers that end a run."""
