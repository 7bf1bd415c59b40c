"""Permission to trust an unknown SSH host key: given once, read by the transport.

A context variable, so that the permission reaches a device however deep it is opened, and ends with
the command or the block that gave it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_accepting: ContextVar[bool] = ContextVar("accept_new_host_key", default=False)


@contextmanager
def accepting_new_host_keys(accept: bool = True) -> Iterator[None]:
    """Inside, an unknown host key is accepted and written down. A changed one never is."""
    token = _accepting.set(accept)
    try:
        yield
    finally:
        _accepting.reset(token)


def accepts_new_host_keys() -> bool:
    return _accepting.get()
