"""Net-Trim's solvers beside the full program in cvxpy and plain ADMM."""
