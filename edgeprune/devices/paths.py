"""The path rules of the device protocol, one check shared by every transport.

Some transports end in a shell line or a file-transfer verb of the board, so a path that could be
read as an option, a second command or a place outside the root never gets that far.
"""

from __future__ import annotations

from edgeprune.errors import UsageError


def check_path(path: str) -> str:
    """The path itself, if it is a relative POSIX path that every transport can carry.

    Refused: empty and absolute paths; ``.``, ``..`` and empty components; components that begin
    with ``-``; backslashes (``sha256sum`` escapes them) and control characters; text that is not
    UTF-8.

    Raises:
        UsageError: with the path and the rule it breaks.
    """
    reason = _fault(path)
    if reason:
        raise UsageError(
            f"device path {path!r} {reason}",
            hint="give a path relative to the device's folder, such as releases/model.bin",
            # the repr, because a lone surrogate cannot be printed as JSON in UTF-8
            path=repr(path),
        )
    return path


def _fault(path: str) -> str:
    if not path:
        return "is empty"
    if path.startswith("/"):
        return "is absolute"
    if any(ord(c) < 0x20 or ord(c) == 0x7F for c in path):
        return "holds a control character"
    if "\\" in path:
        return "holds a backslash"
    try:
        path.encode()
    except UnicodeEncodeError:
        return "is not UTF-8"
    for part in path.split("/"):
        if part in ("", ".", ".."):
            return f"has the component {part!r}"
        if part.startswith("-"):
            return f"has the component {part!r}, which a program would read as an option"
    return ""
