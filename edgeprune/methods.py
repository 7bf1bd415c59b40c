"""Lists of interchangeable methods, and how one of them is asked for: ``NAME`` or ``NAME:option=value,…``."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from edgeprune.errors import UsageError


@dataclass(frozen=True, slots=True)
class Method:
    """One method, named by text so that a list can be read without loading what it names.

    Attributes:
        where: ``package.module:Class``; arguments of its constructor are the options.
        about: what it does, in one line.
        source: where it comes from.
    """

    where: str
    about: str
    source: str

    def load(self) -> Any:
        module, _, name = self.where.partition(":")
        return getattr(import_module(module), name)


class Methods(Mapping[str, Method]):
    """The methods of one kind, by name.

    Args:
        kind: what one of them is called, in the singular.
    """

    def __init__(self, kind: str, known: Mapping[str, Method]) -> None:
        self.kind, self._known = kind, dict(known)

    def __getitem__(self, name: str) -> Method:
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def options(self, name: str) -> dict[str, inspect.Parameter]:
        """What the constructor of a method takes, by name."""
        return dict(inspect.signature(self[name].load(), eval_str=True).parameters)

    def made(self, asked: str, /, *, usual: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """The method that is asked for.

        Args:
            asked: ``NAME``, or ``NAME:option=value,…``.
            usual: values for options that are not given, of methods that have them.
            options: more of them, or others than ``asked`` has.

        Raises:
            UsageError: an unknown name, an unknown option or a value that it cannot have; says what there is.
        """
        name, _, said = asked.partition(":")
        if name not in self:
            raise UsageError(
                f"no {self.kind} '{name}'", hint=f"known: {', '.join(sorted(self))}; see: edgeprune methods"
            )
        known = self.options(name)
        given = {**self._read(name, said, known), **options}
        if unknown := sorted(given.keys() - known.keys()):
            raise UsageError(
                f"{self.kind} '{name}' does not take {', '.join(unknown)}", hint=_takes(known), options=sorted(known)
            )
        given = {**{k: v for k, v in (usual or {}).items() if k in known}, **given}
        if missing := [o for o, p in known.items() if p.default is p.empty and o not in given]:
            raise UsageError(f"{self.kind} '{name}' needs {', '.join(missing)}", hint=f"{name}:{missing[0]}=…")
        return self[name].load()(**given)

    def _read(self, name: str, said: str, known: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
        found = {}
        for part in filter(None, said.split(",")):
            key, equals, text = part.partition("=")
            if not equals or key not in known:
                raise UsageError(
                    f"{self.kind} '{name}' does not take '{part}'", hint=_takes(known), options=sorted(known)
                )
            try:
                found[key] = _value(text, known[key].annotation)
            except ValueError:
                raise UsageError(
                    f"option {key} of {self.kind} '{name}' cannot be '{text}'", hint=_takes(known)
                ) from None
        return found


def chosen(kind: str, option: str, value: str, known: tuple[str, ...]) -> str:
    """The value of an option that is one of some words.

    Raises:
        UsageError: it is none of them.
    """
    if value not in known:
        raise UsageError(f"option {option} of {kind} cannot be '{value}'", hint=f"it is one of {', '.join(known)}")
    return value


def _takes(known: Mapping[str, inspect.Parameter]) -> str:
    said = ", ".join(name if p.default is p.empty else f"{name}={p.default}" for name, p in known.items())
    return f"its options: {said}" if said else "it has no options"


_WORDS = {"yes": True, "true": True, "no": False, "false": False}


def _value(text: str, kind: Any) -> Any:
    if kind is bool:
        if text not in _WORDS:
            raise ValueError(text)
        return _WORDS[text]
    return kind(text) if kind in (int, float) else text
