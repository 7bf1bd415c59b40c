"""Dataclasses as JSON and back, by their annotations: what a stage, a report or a ``--json`` keeps of them."""

from __future__ import annotations

from functools import cache
from typing import Any, Self

from pydantic import ConfigDict, TypeAdapter


class Jsonable:
    """A dataclass that is written as JSON and read back; nested ones too, whether they are Jsonable or not."""

    __slots__ = ()
    __pydantic_config__ = ConfigDict(extra="forbid")

    def to_json(self) -> dict[str, Any]:
        """All fields, as JSON knows them."""
        fields: dict[str, Any] = jsonable(type(self), self)
        return fields

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Raises ValueError for what :meth:`to_json` did not write."""
        found: Self = unjson(cls, data)
        return found


def jsonable(kind: Any, value: Any) -> Any:
    """A value of an annotated type as lists, mappings, strings and numbers."""
    return _adapter(kind).dump_python(value, mode="json")


def unjson(kind: Any, data: Any) -> Any:
    """What :func:`jsonable` was given.

    Raises:
        ValueError: the data is of no such type.
    """
    return _adapter(kind).validate_python(data)


@cache
def _adapter(kind: Any) -> Any:
    return TypeAdapter(kind)
