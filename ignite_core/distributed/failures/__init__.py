"""What one rank's failure means for the others: it is reported, and nobody waits forever."""
