"""sparsify beside magnitude pruning and SparseGPT without a fit."""
