"""What takes how long, and what happened last."""
