"""What to measure: one file a benchmark. Each offers one frozen dataclass that follows `raybridge.data.Evaluator`."""
