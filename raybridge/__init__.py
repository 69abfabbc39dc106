"""raybridge: train, sweep and honestly evaluate translators between frozen language models."""
