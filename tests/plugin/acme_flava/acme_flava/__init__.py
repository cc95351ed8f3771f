"""Answers of which several may be right, and a detector: what an outside package can add."""
