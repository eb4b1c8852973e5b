"""Where sample inputs come from."""
