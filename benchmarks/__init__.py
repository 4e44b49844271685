"""How fast flowq is beside its peers, measured: `make bench`, or `python -m benchmarks --help`. Not part of the package."""
