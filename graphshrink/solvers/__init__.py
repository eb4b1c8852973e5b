"""Numerics that know nothing of graphs."""
