"""Real models, with data to score them on: one interface, one file a family."""
