"""The model as plain data, without policy: graphs, operators, tensors, weights."""
