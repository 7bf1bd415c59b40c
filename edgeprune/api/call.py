"""The call file of a run: the arguments of a fit that text can say, so that ``fit --resume RUN`` needs no others."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeprune.errors import UsageError
from edgeprune.files import write_whole
from edgeprune.fitting.stages import CALL
from edgeprune.home import home


def sign(out: Path, call: Mapping[str, Any]) -> None:
    """Write down how the run was called, signed with a key of this user: it may name code, which ``resume`` then runs.

    A folder from somebody else has no such signature, and its code is not run. docs/DECISIONS.md, 32, says
    why a call is signed with a key of the user.
    """
    text = json.dumps(dict(call), sort_keys=True)
    write_whole(out / CALL, json.dumps({"call": dict(call), "signature": _signature(text)}, indent=1) + "\n")


def signed(out: Path) -> tuple[dict[str, Any], bool]:
    """The call of the run in ``out``, and whether its signature is this user's.

    Raises:
        UsageError: nothing is written there.
    """
    try:
        said = json.loads((out / CALL).read_text())
        call, signature = dict(said["call"]), str(said["signature"])
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise UsageError(f"{out} holds no run that could be gone on with: {e}", hint="give the --out of a fit") from e
    return call, hmac.compare_digest(signature, _signature(json.dumps(call, sort_keys=True)))


def _signature(text: str) -> str:
    path = home() / "key"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, secrets.token_hex(32))
        path.chmod(0o600)
    return hmac.new(path.read_bytes(), text.encode(), hashlib.sha256).hexdigest()
