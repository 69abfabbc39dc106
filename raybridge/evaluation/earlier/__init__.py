"""Runs of earlier implementations: read, checked, graded and taken into the results."""
