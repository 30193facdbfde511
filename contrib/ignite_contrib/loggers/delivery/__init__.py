"""Delivers records to the servers of loggers, now or, if they do not answer, later."""
