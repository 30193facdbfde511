"""How a process learns its rank and finds the other ranks."""
