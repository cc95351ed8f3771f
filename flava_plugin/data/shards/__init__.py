"""Indexed tars of samples, local and remote."""
