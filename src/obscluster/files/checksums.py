"""Whether a file is the one that was there before."""

from __future__ import annotations

import hashlib
from pathlib import Path

__all__ = ["checksum", "checksum_of"]


def checksum(path: Path) -> str:
    """SHA-256 of a file, as ``sha256:<hex>``."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def checksum_of(content: bytes) -> str:
    """The same, of the bytes of a file that were read already."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
