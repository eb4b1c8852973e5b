"""Benchmarks of graphshrink: each is a module to run as `python -m benchmarks.NAME`; see README.md."""
