"""How fast flowq is, measured: `python -m benchmarks.chains --help`. Not part of the package."""
