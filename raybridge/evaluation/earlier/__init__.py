"""Runs of earlier implementations: `records.read_run` reads, checks and grades one, `write.write_run` keeps it."""
