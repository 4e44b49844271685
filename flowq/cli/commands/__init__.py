"""One module per command: `configure(parser)` defines its options, `run(arguments)` does it and returns the exit code."""
