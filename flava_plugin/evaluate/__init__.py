"""Measures a trained model, reports on it, and hands it to Python users."""
