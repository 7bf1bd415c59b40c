"""edgeprune: prune a trained network to a millisecond budget on a real board."""

__version__ = "0.1.0"
