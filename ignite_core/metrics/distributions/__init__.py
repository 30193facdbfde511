"""Metrics that compare distributions."""
