"""Acceptance of a live board: everything that edgeprune does with one, done once with a small network."""
