"""Parameters of tests of which a few run always, and all with ``make test-long``."""

from collections.abc import Container, Iterable

import pytest


def long(cases: Iterable[object], which: Container[object]) -> list[object]:
    """The cases of a test, marked ``long`` where they are among ``which``: larger networks, or more of a kind."""
    return [
        pytest.param(*(case if isinstance(case, tuple) else [case]), marks=pytest.mark.long) if case in which else case
        for case in cases
    ]
