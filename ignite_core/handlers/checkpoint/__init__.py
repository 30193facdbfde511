"""Checkpoints: what to keep, under which names, how it reaches the disk, and how a run goes on from it."""
