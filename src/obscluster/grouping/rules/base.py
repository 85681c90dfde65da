"""What every rule can do, and what those that compare features share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from astropy import units as u
from astropy.table import Table
from numpy.typing import NDArray

from obscluster.columns import is_numeric, numbers
from obscluster.exceptions import RequestError, unknown_name
from obscluster.files.records import (
    Check,
    RecordError,
    list_of,
    mapping,
    mapping_of,
    number,
    one_of,
    optional,
    text,
    whole,
)
from obscluster.scaling import apply_scaling

__all__ = ["NONE", "ROUNDING", "Answer", "Array", "FeatureSpaceRule", "Labels", "Rule"]
__all__ += ["HEAD", "LABEL", "column_of", "texts_of", "unit_text"]

Array = NDArray[np.float64]
Labels = NDArray[np.int64]
Answer = tuple[Labels, list[str]]

NONE = -1
"""Label of a run that fits no group."""
ROUNDING = 1e-9
"""Scaled distances that differ by less are the same but for rounding."""


def unit_text(value: Any, at: tuple[str | int, ...]) -> None:
    """A unit that astropy knows, see `obscluster.files.records`."""
    text(value, at)
    try:
        u.Unit(value)
    except (TypeError, ValueError):
        raise RecordError(f"{'.'.join(map(str, at))}: {value[:40]!r} is no unit") from None


LABEL = whole(NONE, 10**9)
"""Label of a group in a record."""

_CONSTANTS = mapping(
    {
        "center": number(finite=False),
        "scale": number(finite=False),
        "unit": unit_text,
    },
    {"weight": number(), "log": one_of(True, False)},
)
HEAD: dict[str, Check] = {
    "features": list_of(text, at_least=1),
    "scaling": optional(mapping({"constants": mapping_of(_CONSTANTS, key=text)})),
}
"""What records of rules that compare scaled features have."""


class Rule(Protocol):
    """What every rule can do."""

    kind: ClassVar[str]

    def assign(self, runs: Table) -> Answer:
        """Label of each run, -1 where it fits none, and why, shape (n_obs,) each.

        Parameters
        ----------
        runs : `~astropy.table.Table`
            The features and columns that the rule needs, in units.
        """

    def relabelled(self, labels: Mapping[int, int]) -> Rule:
        """The same rule with other labels; -1 for groups that are no more."""

    def record(self) -> dict[str, Any]:
        """Plain content, in which long matrices are tables."""

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Rule:
        """The rule that was recorded.

        Raises
        ------
        RecordError
            If the record is not that of such a rule.
        """


@dataclass(frozen=True, eq=False)
class FeatureSpaceRule:
    """Rules that compare scaled features.

    Parameters
    ----------
    scaling : mapping or None
        Constants for `~obscluster.scaling.apply_scaling`; None if features are taken as they are.
    names : tuple of str
        Scaled features, the columns of the matrix.
    """

    scaling: Mapping[str, Any] | None
    names: tuple[str, ...]

    def _matrix(self, runs: Table) -> tuple[Array, NDArray[np.bool_], list[str]]:
        """Scaled features, which runs have them all, and why the others do not."""
        scaled = runs if self.scaling is None else apply_scaling(runs, self.scaling)
        X = np.column_stack([numbers(column_of(scaled, name)) for name in self.names])
        reasons = []
        for row in X:
            missing = [n for n, v in zip(self.names, row, strict=True) if np.isnan(v)]
            unlike = [n for n, v in zip(self.names, row, strict=True) if np.isinf(v)]
            reason = f"no {', '.join(missing)}" if missing else ""
            if unlike and not missing:
                reason = f"{', '.join(unlike)} had the same value in all runs before, not this one"
            reasons.append(reason)
        return X, np.asarray(np.isfinite(X).all(axis=1)), reasons

    def _head(self, kind: str) -> dict[str, Any]:
        return {"kind": kind, "features": list(self.names), "scaling": self.scaling}


def texts_of(runs: Table, name: str) -> list[str]:
    """Values of a column as text, empty where there is none; whole numbers without a point."""
    column = column_of(runs, name)
    if is_numeric(column):
        return [f"{value:.12g}" if np.isfinite(value) else "" for value in numbers(column)]
    return ["" if np.ma.is_masked(value) else str(value).strip() for value in column]


def column_of(runs: Table, name: str) -> Any:
    if name not in runs.colnames:
        raise RequestError(unknown_name("column", name, runs.colnames))
    return runs[name]
