"""What needs more than torch: each module wraps one optional package, and is an extra of the same name."""
