"""Composed operators: those that are written with simpler ones right after a network was traced.

A variance is a mean, a difference, a square and a sum. Whatever follows channels, proves zeros, cuts kernels or
builds for a GPU then needs to know the simple ones alone.
"""
