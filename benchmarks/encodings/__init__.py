"""What encoded weights cost: bytes beside their entropy and beside packers, time and memory at load, time to encode."""
