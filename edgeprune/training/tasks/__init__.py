"""Tasks: what a network is for, as a loss, a metric and what else training and judging need to know of it."""
