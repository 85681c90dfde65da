"""Rows of a table and their labels, in the order of the identifiers."""

from __future__ import annotations

import numpy as np
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray

from obscluster.exceptions import RequestError
from obscluster.grouping.base import UNASSIGNED, Grouping

__all__ = ["Labels", "members_of", "row_labels", "run_ids"]

Labels = ArrayLike | Grouping
"""Group of each run, see `row_labels`."""


def run_ids(table: Table) -> NDArray[np.int64]:
    """Identifiers of the rows, shape (n_obs,).

    Raises
    ------
    RequestError
        If there is no column ``obs_id``, or a run appears twice.
    """
    if "obs_id" not in table.colnames:
        raise RequestError(f"no column obs_id among {', '.join(table.colnames)}")
    obs_ids = np.asarray(table["obs_id"], dtype=np.int64)
    found, counts = np.unique(obs_ids, return_counts=True)
    if (counts > 1).any():
        raise RequestError(f"run {found[counts > 1][0]} has several rows; one per run is needed")
    return obs_ids


def row_labels(table: Table, labels: Labels) -> NDArray[np.int64]:
    """Label of each row.

    Parameters
    ----------
    table : `~astropy.table.Table`
        One row per run, with ``obs_id``.
    labels : `~obscluster.grouping.base.Grouping` or array_like of int
        Labels by identifier, or row by row: from 1, and -1 for runs of no group.

    Returns
    -------
    labels : `~numpy.ndarray`
        Shape (n_obs,).

    Raises
    ------
    RequestError
        If there is not one integer for each row, an integer is no label, or a grouping has none
        of the runs.
    """
    obs_ids = run_ids(table)
    if isinstance(labels, Grouping):
        if len(obs_ids) and not np.isin(obs_ids, labels.obs_ids).any():
            raise RequestError(
                f"none of the {len(obs_ids)} runs of the table is among the {len(labels)} of the "
                "grouping; give the grouping of these runs"
            )
        return labels.label_of(obs_ids)
    found = np.asarray(labels)
    if found.shape != obs_ids.shape:
        raise RequestError(
            f"labels of shape {found.shape} for a table of {len(obs_ids)} runs; "
            "give one label for each row, or a Grouping"
        )
    if found.size and found.dtype.kind not in "iu":
        raise RequestError(f"labels such as {found.flat[0]!r}; expected integers from 1, or -1")
    wrong = found[(found < 1) & (found != UNASSIGNED)]
    if wrong.size:
        raise RequestError(
            f"label {wrong[0]}; labels count from 1, and -1 is for runs of no group "
            "(add 1 to labels of scikit-learn, but not to -1)"
        )
    return found.astype(np.int64)


def members_of(labels: NDArray[np.int64]) -> dict[int, NDArray[np.intp]]:
    """Rows of each group, by label in rising order; runs of no group are left out."""
    order = np.argsort(labels, kind="stable")
    found, starts = np.unique(labels[order], return_index=True)
    parts = np.split(order, starts[1:]) if len(found) else []
    return {
        int(label): rows for label, rows in zip(found, parts, strict=True) if label != UNASSIGNED
    }
