"""Features that need more than torch: each back-end is an optional extra of the package."""
