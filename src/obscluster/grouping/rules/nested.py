"""Rules within the parts that another rule finds, and all rules by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from astropy.table import Table

from obscluster.exceptions import RequestError, unknown_name
from obscluster.files.records import mapping, mapping_of, text
from obscluster.grouping.rules.base import LABEL, NONE, Answer, Rule
from obscluster.grouping.rules.cells import Cells
from obscluster.grouping.rules.mixture import Mixture
from obscluster.grouping.rules.nearest import NearestCentroid, NearestRun

__all__ = ["RULES", "Nested", "rule_from_record"]


@dataclass(frozen=True)
class Nested:
    """A rule within each part that another rule finds.

    Parameters
    ----------
    outer : `~obscluster.grouping.rules.Rule`
        Finds the part.
    inner : mapping
        Part to its rule.
    """

    outer: Rule
    inner: Mapping[int, Rule]
    kind: ClassVar[str] = "nested"

    def assign(self, runs: Table) -> Answer:
        """See `Rule`."""
        parts, reasons = self.outer.assign(runs)
        labels = np.full(len(runs), NONE, dtype=np.int64)
        for part, rule in self.inner.items():
            rows = np.flatnonzero(parts == part)
            if len(rows):
                labels[rows], inside = rule.assign(runs[rows])
                for row, reason in zip(rows, inside, strict=True):
                    reasons[row] = reason
        return labels, reasons

    def relabelled(self, labels: Mapping[int, int]) -> Nested:
        """See `Rule`."""
        return replace(self, inner={k: rule.relabelled(labels) for k, rule in self.inner.items()})

    def record(self) -> dict[str, Any]:
        """See `Rule`."""
        return {
            "kind": self.kind,
            "outer": self.outer.record(),
            "inner": {part: rule.record() for part, rule in self.inner.items()},
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Nested:
        """See `Rule`."""
        _RECORD(record, ())
        inner = {int(k): rule_from_record(r) for k, r in record["inner"].items()}
        return cls(rule_from_record(record["outer"]), inner)


_RULE = mapping({"kind": text})
_RECORD = mapping({"outer": _RULE, "inner": mapping_of(_RULE, key=LABEL)})

RULES: dict[str, type[Rule]] = {
    rule.kind: rule for rule in (Cells, NearestRun, NearestCentroid, Mixture, Nested)
}
"""Rules by their name in groups.yaml."""


def rule_from_record(record: Mapping[str, Any]) -> Rule:
    """The rule that a record describes.

    Raises
    ------
    RequestError
        If it is of an unknown kind.
    """
    kind = str(record["kind"])
    if kind not in RULES:
        raise RequestError(unknown_name("assignment rule", kind, RULES))
    return RULES[kind].from_record(record)
