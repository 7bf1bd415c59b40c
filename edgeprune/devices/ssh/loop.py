"""An event loop in a thread of its own: asyncssh is asynchronous, the device protocol is not."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

_CLOSING_S = 5.0


class LoopThread:
    """Runs coroutines for callers that wait; owned by one device."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()
        logging.getLogger("asyncio").addFilter(self._tells_news)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work``. An interrupt here cancels it there, and waits until it has tidied up."""
        if self._loop.is_closed():
            work.close()
            raise RuntimeError("the loop is closed")
        tidied = threading.Event()

        async def tracked() -> T:
            try:
                return await work
            finally:
                tidied.set()

        future = asyncio.run_coroutine_threadsafe(tracked(), self._loop)
        try:
            return future.result()
        except BaseException:
            if not future.done():
                future.cancel()
                tidied.wait(_CLOSING_S)
            raise

    def close(self) -> None:
        """Stop; whatever still runs is cancelled. Closing twice is fine."""
        if self._loop.is_closed() or threading.current_thread() is self._thread:
            return
        with suppress(CancelledError, TimeoutError):
            asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop).result(_CLOSING_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSING_S)
        if not self._thread.is_alive():
            self._loop.close()
        logging.getLogger("asyncio").removeFilter(self._tells_news)

    def _tells_news(self, record: logging.LogRecord) -> bool:
        """Not what every packet of a dead connection says; the error that follows says it once."""
        return record.thread != self._thread.ident or record.msg != "socket.send() raised exception."


async def _cancel_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
