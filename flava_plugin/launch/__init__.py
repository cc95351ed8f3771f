"""Puts a recipe on SLURM, or on several processes of this machine, through submitit."""
