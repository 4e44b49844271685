"""One flow: `FlowHandle` and its parts, and what clients and running stages alike read of it."""
