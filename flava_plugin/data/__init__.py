"""From datasets to batches: order, mixture, masking, transforms, reading and loading."""
