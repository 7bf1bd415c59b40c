"""One protocol of a board, and one module a way to reach one: ``registry.open_device`` takes its URL."""
