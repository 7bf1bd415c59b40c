"""Sampling: which kernels and networks are measured, so that few measurements say what plans will hang on."""
