"""A board behind a serial console: bytes in and out, a shell behind them, and noise in between."""
