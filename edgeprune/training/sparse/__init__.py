"""Sparsity: trainings that end in exact zeros, of single weights, blocks of them, or whole channels."""
