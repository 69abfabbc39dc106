"""What to run: one file a question."""
