"""What a report says of a program whose weights are stored without their zeros."""

from __future__ import annotations

from edgeprune.report.strict import Count, Strict


class Compressed(Strict):
    """Constants without their zeros: by how many bytes the program's file is smaller, and the bytes that they take
    decoded.
    """

    constants: Count
    saved_bytes: Count
    decoded_bytes: Count
