"""One run of a stage: from the claim to its outcome, and what `context()` offers in between."""
