"""What was found of one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Row"]


@dataclass(frozen=True)
class Row:
    """Values of one run, and what was wrong.

    Parameters
    ----------
    values : `~numpy.ndarray`
        One per column of the feature table.
    remarks : sequence of sequence of str
        What was remarked, per column.
    final : sequence of bool
        Per column, whether the same files would give the same again: not if one could not be read.
    skipped : str
        Why there are no values at all; empty if there are.
    unread : str
        Why a file could not be read, even if there are values all the same; empty if all could.
    """

    values: NDArray[np.float64]
    remarks: Sequence[Sequence[str]] = ()
    final: Sequence[bool] = ()
    skipped: str = ""
    unread: str = ""

    @property
    def note(self) -> str:
        """Why values are missing or doubtful."""
        if self.skipped:
            return f"skipped: {self.skipped}"
        return "; ".join(dict.fromkeys(chain.from_iterable(self.remarks)))

    def __reduce__(self) -> tuple[Any, ...]:
        # Rows come from other processes, and numpy's own way takes longer than the rest of a row.
        values = self.values.tobytes()
        return _restored, (values, self.remarks, self.final, self.skipped, self.unread)

    @classmethod
    def skip(cls, n_columns: int, reason: str, unread: str = "") -> Row:
        """Row of a run whose files cannot be read, or lack what they should hold."""
        return cls(np.full(n_columns, np.nan), skipped=reason, unread=unread)


def _restored(
    values: bytes,
    remarks: Sequence[Sequence[str]],
    final: Sequence[bool],
    skipped: str,
    unread: str,
) -> Row:
    return Row(np.frombuffer(values), remarks, final, skipped, unread)
