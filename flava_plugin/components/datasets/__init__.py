"""Datasets a recipe can name, one file per family."""
