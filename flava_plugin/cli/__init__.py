"""The flava command, a file for each group of commands."""
