"""Deliver records to a back-end, now or when it is available again."""
