"""Computation models: one for each framework that lets processes exchange tensors."""
