"""Boards behind an SSH server."""
