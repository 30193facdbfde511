"""Checkpoint files: how they are written, found, checked and read."""
