from collections.abc import Callable
from pathlib import Path

import pytest
from deploy_bundles import compile_program, make_bundle, variant


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return compile_program(tmp_path_factory.mktemp("program"))


@pytest.fixture(scope="session")
def bundle(program: bytes, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``bundle("wrong")``: a bundle whose program misbehaves that way; made once a session."""
    made: dict[str, Path] = {}

    def get(name: str, **options: dict) -> Path:
        key = f"{name} {options}"
        if key not in made:
            made[key] = make_bundle(tmp_path_factory.mktemp("bundle") / "bundle", variant(program, name), **options)
        return made[key]

    return get
