"""raybridge: train, sweep and honestly evaluate translators between frozen language models."""

from pathlib import Path

HOUSE = Path(__file__).parents[1]  # where the folders that users write in stand: sweeps/, evaluators/, plots/
