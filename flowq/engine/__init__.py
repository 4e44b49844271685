"""What moves flows: producers, workers and their duties."""
