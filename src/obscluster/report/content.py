"""What a report tells, collected: tables and arrays, no files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from astropy.table import QTable, Table
from numpy.typing import NDArray

from obscluster.assessment import Suggestion
from obscluster.curves import IrfCurves
from obscluster.grouping.base import UNASSIGNED, Grouping
from obscluster.report.colours import GroupLook, looks
from obscluster.report.quantities import DATE, Quantity, conditions_of, features_of
from obscluster.report.wording import describe_groups

__all__ = ["ReportContent"]

_DAYS_PER_YEAR = 365.25
_EPOCH_MJD, _EPOCH_YEAR = 51544.5, 2000.0


@dataclass(frozen=True, eq=False)
class ReportContent:
    """A grouping and all that is known of it; arrays have one entry per run, shape (n_obs,).

    Parameters
    ----------
    grouping : `~obscluster.grouping.base.Grouping`
        The groups.
    record : mapping
        Content of groups.yaml.
    yaml : str
        The description that repeats it, as text.
    obs_table : `~astropy.table.Table`
        Rows of the obs-index, in the order of the grouping.
    feature_table : `~astropy.table.QTable`
        Features, in that order.
    hours : `~numpy.ndarray`
        Live times; all zero if the index has none.
    mjd : `~numpy.ndarray`
        When the runs began; NaN if the index does not say.
    pointing : tuple of `~numpy.ndarray` or None
        Right ascension and declination in degrees.
    targets : sequence of str
        What was looked at; empty if the index does not say.
    spreads, quality, outliers, suggestion
        See `obscluster.assessment`; tables are empty for groups that are categories.
    partitions : mapping
        Number of groups to labels, for those numbers that the method could have given.
    losses : `~astropy.table.QTable` or None
        Information lost by these groups, and by stacking everything.
    losses_by_number : mapping
        Number of groups to the information that those of ``partitions`` lose.
    curves : `~obscluster.curves.IrfCurves` or None
        Responses against energy.
    missing : mapping
        What is not shown, and why.
    fit_verdict : sequence of str
        What a joint fit of the groups says first, if there is one.
    attribution : str
        Whom to acknowledge for the data, if the record says whose they are.
    """

    grouping: Grouping
    record: Mapping[str, Any]
    yaml: str
    obs_table: Table
    feature_table: QTable
    hours: NDArray[np.float64]
    mjd: NDArray[np.float64]
    pointing: tuple[NDArray[np.float64], NDArray[np.float64]] | None
    targets: Sequence[str]
    spreads: Table
    quality: QTable
    outliers: Table
    suggestion: Suggestion | None = None
    partitions: Mapping[int, NDArray[np.int64]] = field(default_factory=dict)
    losses: QTable | None = None
    losses_by_number: Mapping[int, float] = field(default_factory=dict)
    curves: IrfCurves | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    fit_verdict: Sequence[str] = ()
    attribution: str = ""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Group of each run."""
        return self.grouping.labels

    @property
    def found(self) -> list[int]:
        """Labels of the groups."""
        return list(range(1, self.grouping.n_groups + 1))

    @property
    def with_unassigned(self) -> list[int]:
        """Labels of the groups, and that of no group if there are such runs."""
        rest = bool((self.labels == UNASSIGNED).any())
        return [*self.found, *([UNASSIGNED] if rest else [])]

    @cached_property
    def looks(self) -> dict[int, GroupLook]:
        """Colours and markers of the groups, and of those that a user may make by hand."""
        most = max([self.grouping.n_groups, *self.partitions])
        return looks([*range(1, most + 11), UNASSIGNED])

    @cached_property
    def features(self) -> list[Quantity]:
        """What the runs were grouped by, and what else was computed."""
        clustered = [str(name) for name in self.record.get("clustered") or ()]
        others = [name for name in self.feature_table.colnames if name not in clustered]
        skip = ("obs_id", "label", "notes")
        return features_of(self.feature_table, [*clustered, *(n for n in others if n not in skip)])

    @cached_property
    def conditions(self) -> list[Quantity]:
        """How the runs were taken; what is a feature too is left to these."""
        return [
            q
            for q in conditions_of(self.obs_table)
            if not any(
                np.allclose(q.values, f.values, rtol=1e-5, equal_nan=True) for f in self.features
            )
        ]

    @cached_property
    def dates(self) -> Quantity:
        """When the runs began, in decimal years."""
        years = _EPOCH_YEAR + (self.mjd - _EPOCH_MJD) / _DAYS_PER_YEAR
        return Quantity(DATE, "date", years, "year")

    @cached_property
    def words(self) -> dict[int, str]:
        """What sets each group apart."""
        return describe_groups([*self.conditions, self.dates, *self.features], self.labels)

    @property
    def loss(self) -> float | None:
        """Part of the information that these groups lose; None if nobody asked."""
        if self.losses is None or not len(self.losses):
            return None
        value = float(self.losses["loss"][0])
        return value if np.isfinite(value) else None

    def name_of(self, label: int) -> str:
        """How the group is called in text."""
        if label == UNASSIGNED:
            return "no group"
        name = self.grouping.names.get(label)
        return f"group {label} ({name})" if name else f"group {label}"
