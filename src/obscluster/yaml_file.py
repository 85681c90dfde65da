"""YAML files of plain values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from obscluster.exceptions import ArchiveError

__all__ = ["plain", "read_yaml", "write_yaml"]


def plain(value: Any) -> Any:
    """Value without numpy types, tuples or objects, as YAML knows it."""
    if isinstance(value, Mapping):
        return {key if isinstance(key, int) else str(key): plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return value.item()
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    """Write a mapping, keys in their order."""
    text = yaml.safe_dump(plain(content), sort_keys=False, allow_unicode=True, width=100)
    path.write_text(text, encoding="utf-8")


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping.

    Raises
    ------
    ArchiveError
        If the file is missing, or does not hold a mapping in YAML.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ArchiveError(f"{path}: not YAML ({error})") from None
    if not isinstance(content, dict):
        raise ArchiveError(f"{path}: holds no keys and values")
    return content
