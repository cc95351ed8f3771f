"""What a run costs before it starts, and where a step's time goes once it can run."""
