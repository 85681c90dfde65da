"""Whether two groupings agree.

The adjusted Rand index counts pairs of runs that are together in both groupings or apart in both,
relative to what chance would give: 1 for the same groups, about 0 for unrelated ones (Hubert and
Arabie 1985, J. Classification 2, 193; computed by scikit-learn).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.table import Column, Table
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from obscluster.exceptions import join_lines
from obscluster.grouping import UNASSIGNED
from obscluster.grouping.base import Grouping

__all__ = ["Comparison", "adjusted_rand", "compare", "match_labels"]

_MAX_LISTED = 10
_MAX_LINES, _MAX_WIDTH = 60, 100


@dataclass(frozen=True, eq=False)
class Comparison:
    """How two groupings agree.

    Parameters
    ----------
    counts : `~numpy.ndarray`
        Runs that both groupings know, by their group in the first and in the second, shape
        (n_groups of the first + 1, n_groups of the second + 1). The last row and the last column
        are the unassigned runs.
    first, second : list of str
        What the rows and the columns are.
    adjusted_rand : float
        Adjusted Rand index of the runs that both assign; NaN if there are fewer than two.
    n_matched : int
        Runs that stay together if each group of one is identified with that group of the other
        that makes this number largest.
    only_first, only_second : `~numpy.ndarray`
        Runs that only one grouping knows, in rising order.
    """

    counts: NDArray[np.int64]
    first: list[str]
    second: list[str]
    adjusted_rand: float
    n_matched: int
    only_first: NDArray[np.int64]
    only_second: NDArray[np.int64]

    @property
    def n_common(self) -> int:
        """Number of runs that both groupings know."""
        return int(self.counts.sum())

    @property
    def n_assigned(self) -> int:
        """Number of runs that are in a group of both."""
        return int(self.counts[:-1, :-1].sum())

    @property
    def table(self) -> Table:
        """Contingency table: a row for each group of the first, a column for each of the second."""
        table = Table({"first \\ second": Column(self.first, dtype=str)})
        for name, column in zip(self.second, self.counts.T, strict=True):
            table[name] = column
        return table

    def __str__(self) -> str:
        rand = f"adjusted Rand index {self.adjusted_rand:.3f}"
        if np.isnan(self.adjusted_rand):
            rand = "too few for an adjusted Rand index"
        # The contingency table without unassigned runs where there are none.
        table = self.table
        if max(map(len, self.table.pformat(max_lines=-1, max_width=-1))) > _MAX_WIDTH:
            # Without the names of the groups.
            short = [text.partition(" ")[0] for text in self.second]
            table.rename_columns(table.colnames[1:], short)
            table["first \\ second"] = [text.partition(" ")[0] for text in self.first]
        if not self.counts[-1].any():
            table = table[:-1]
        if not self.counts[:, -1].any():
            table.remove_column(table.colnames[-1])
        lines = [
            f"{self.n_common} runs in both groupings, {self.n_assigned} of them assigned in both:",
            f"{self.n_matched} in groups that correspond, {rand}",
            *table.pformat(max_lines=_MAX_LINES, max_width=_MAX_WIDTH),
        ]
        for which, obs_ids in (("first", self.only_first), ("second", self.only_second)):
            if len(obs_ids):
                listed = ", ".join(map(str, obs_ids[:_MAX_LISTED].tolist()))
                more = ", ..." if len(obs_ids) > _MAX_LISTED else ""
                lines.append(f"{len(obs_ids)} only in the {which}: {listed}{more}")
        return join_lines(lines)


def compare(first: Grouping, second: Grouping) -> Comparison:
    """Compare two groupings, run by run.

    Parameters
    ----------
    first, second : `~obscluster.grouping.base.Grouping`
        They need not have the same runs; the order of the runs does not matter.

    Returns
    -------
    comparison : `Comparison`
        ``print`` it for a summary.
    """
    common = np.intersect1d(first.obs_ids, second.obs_ids)
    ours, theirs = first.label_of(common), second.label_of(common)
    shape = first.n_groups + 1, second.n_groups + 1
    rows = np.where(ours == UNASSIGNED, shape[0], ours) - 1
    columns = np.where(theirs == UNASSIGNED, shape[1], theirs) - 1
    counts = np.bincount(rows * shape[1] + columns, minlength=shape[0] * shape[1]).reshape(shape)
    return Comparison(
        counts.astype(np.int64),
        _texts(first),
        _texts(second),
        adjusted_rand(ours, theirs),
        int(counts[:-1, :-1][linear_sum_assignment(-counts[:-1, :-1])].sum()),
        np.setdiff1d(first.obs_ids, common),
        np.setdiff1d(second.obs_ids, common),
    )


def adjusted_rand(first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
    """Adjusted Rand index of the runs that both label arrays assign; NaN for fewer than two."""
    # scikit-learn takes more than a second to load.
    from sklearn.metrics import adjusted_rand_score

    both = (first != UNASSIGNED) & (second != UNASSIGNED)
    return float(adjusted_rand_score(first[both], second[both])) if both.sum() > 1 else np.nan


def match_labels(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels of the second in terms of the first, such that most runs keep their label.

    Parameters
    ----------
    first, second : `~numpy.ndarray`
        Labels of the same runs, shape (n,); -1 for none.

    Returns
    -------
    labels : `~numpy.ndarray`
        Shape (n,). Each group of the second takes the label of one of the first; 0 if none is left
        for it, and -1 stays.
    """
    ours, rows = np.unique(first, return_inverse=True)
    theirs, columns = np.unique(second, return_inverse=True)
    counts = np.bincount(rows * len(theirs) + columns, minlength=len(ours) * len(theirs))
    counts = counts.reshape(len(ours), len(theirs))
    # Runs of no group are no group that could correspond to one.
    counts[ours == UNASSIGNED] = 0
    counts[:, theirs == UNASSIGNED] = 0
    matched = np.zeros(len(theirs), dtype=np.int64)
    for row, column in zip(*linear_sum_assignment(-counts), strict=True):
        if counts[row, column]:
            matched[column] = ours[row]
    matched[theirs == UNASSIGNED] = UNASSIGNED
    result: NDArray[np.int64] = matched[columns]
    return result


def _texts(grouping: Grouping) -> list[str]:
    names = grouping.names
    texts = [
        f"group_{label} ({names[label]})" if label in names else f"group_{label}"
        for label in range(1, grouping.n_groups + 1)
    ]
    return [*texts, "unassigned"]
