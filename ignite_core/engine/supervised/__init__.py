"""Trainers and evaluators for supervised learning."""
