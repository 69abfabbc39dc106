"""Frozen language models: found by name, loaded, prompted, read and decoded."""
