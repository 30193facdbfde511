"""How ranks agree on what to do after the same iteration."""
