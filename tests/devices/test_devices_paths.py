import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.devices.paths import check_path
from edgeprune.errors import UsageError


@pytest.mark.parametrize("path", ["a", "a/b", ".hidden", "a b", "a;b", "x-", "a..b", "größe", "a/.b"])
def test_plain_relative_paths_pass_unchanged(path):
    assert check_path(path) == path


@given(st.text(alphabet=st.sampled_from("ab./-\\ \n\0é;\ud800"), max_size=8))
def test_what_passes_stays_below_the_root_and_is_one_literal_word(tmp_path_factory, path):
    root = tmp_path_factory.getbasetemp().resolve()
    try:
        check_path(path)
    except UsageError as e:
        json.dumps(e.to_json()).encode()
        return
    below = (root / path).resolve()
    assert below != root
    assert below.is_relative_to(root)
    assert not any(part.startswith("-") for part in path.split("/"))
    assert not set(path) & set("\\\n\0")
    assert str((root / path).relative_to(root)) == path
