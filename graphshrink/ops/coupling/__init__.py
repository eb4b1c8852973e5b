"""Which channels of a graph can only be removed together, and the graph without some of them."""
