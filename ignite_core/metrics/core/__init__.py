"""What all metrics are built on."""
