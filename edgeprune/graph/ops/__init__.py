"""Operators of kernels, one file a family: what a :class:`~edgeprune.graph.spec.KernelSpec` has to know of its own."""
