"""The data of a run: where in it the run is, and how to get there again."""
