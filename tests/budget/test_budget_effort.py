"""Times as people write them."""

import pytest

from edgeprune.budget.effort import parse_seconds
from edgeprune.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"), [("3m", 180), ("90s", 90), ("1h", 3600), (" 0.5 min ", 30), (12, 12), (0.25, 0.25)]
)
def test_a_time(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "3", "m", "3.1.4s", "1d", "-1s", "1e3s", 0, -1, float("nan"), float("inf")])
def test_what_is_none(text):
    with pytest.raises(UsageError, match="no time"):
        parse_seconds(text)
