"""Rendering of one JSON-serialisable report as tables, plots and one self-contained HTML page."""
