"""A flight recorder: what happened last, written down when something goes wrong."""
