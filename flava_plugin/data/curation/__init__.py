"""Which samples of a source are worth training on: one scan, then pure functions of its tables."""
