"""Schedules: pure curves of the step count, and handlers that write them into an optimizer, a state or a sampler."""
