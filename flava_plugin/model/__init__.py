"""What is trained: the backbone, the learner around it, and its weights in other formats."""
