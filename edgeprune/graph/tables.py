"""Tables by ATen overload, filled by a decorator on what each row holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def filling(table: dict[Any, F], what: str) -> Callable[..., Callable[[F], F]]:
    """A decorator that takes overloads and enters a function for each of them.

    Args:
        what: what a row of this table is called.

    Raises:
        ValueError: (the decorator) an overload has a row already.
    """

    def rows(*overloads: Any) -> Callable[[F], F]:
        def enter(function: F) -> F:
            for overload in overloads:
                if overload in table:
                    raise ValueError(f"{overload} has a {what} already: {table[overload].__name__}")
                table[overload] = function
            return function

        return enter

    return rows
