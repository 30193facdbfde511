# Nothing here holds tests, and collecting `torch_xla` would import it, under that very name.
collect_ignore_glob = ["*"]
