"""Acceptance: of this computer, and of a live board, with which everything is done once with a small network."""
