"""Report failures of a rank to the other ranks, which raise instead of waiting forever."""
