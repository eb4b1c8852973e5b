"""Pruning, sharing and packing together: `python -m benchmarks.compress`."""
