"""Boards behind a TVM RPC server."""
