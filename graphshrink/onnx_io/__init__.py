"""Model files: reading, writing, and running them."""
