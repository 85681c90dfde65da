"""A result in a few lines of text."""

from __future__ import annotations

import numpy as np
from astropy import units as u
from astropy.table import Table
from numpy.typing import NDArray

from obscluster.grouping.base import UNASSIGNED
from obscluster.pipeline import GroupResult, livetimes
from obscluster.scaling import feature_names

__all__ = ["describe_result"]

_MAX_GROUPS = 40


def describe_result(result: GroupResult) -> str:
    """Cut-flow, one sentence, and a table of the groups.

    Parameters
    ----------
    result : `~obscluster.pipeline.GroupResult`
        The result.

    Returns
    -------
    text : str
        Several lines, for a terminal.
    """
    grouping = result.grouping
    hours = livetimes(result.obs_table)
    n_rest = int((grouping.labels == UNASSIGNED).sum())
    groups = "1 group" if grouping.n_groups == 1 else f"{grouping.n_groups} groups"
    sentence = f"{len(grouping)} observations, {hours.sum():.1f} h, in {groups}"
    lines = [*result.cut_flow.pformat(max_width=-1), "", sentence]
    if n_rest:
        lines[-1] += f"; {n_rest} in no group"
    lines += ["", *_group_table(result, hours).pformat(max_width=-1)]
    if grouping.n_groups > _MAX_GROUPS:
        lines.append(f"... and {grouping.n_groups - _MAX_GROUPS} more groups")
    return "\n".join(lines)


def _group_table(result: GroupResult, hours: NDArray[np.float64]) -> Table:
    """Runs, hours and the range of every feature for each group."""
    grouping, features = result.grouping, result.features
    labels = range(1, min(grouping.n_groups, _MAX_GROUPS) + 1)
    table = Table()
    table["group"] = [f"group_{label}" for label in labels]
    if grouping.names:
        table["name"] = [grouping.names.get(label, "") for label in labels]
    table["runs"] = [int((grouping.labels == label).sum()) for label in labels]
    table["livetime"] = [f"{hours[grouping.labels == label].sum():.1f} h" for label in labels]
    for name in feature_names(features):
        column = u.Quantity(features[name])
        unit = f" [{column.unit}]" if column.unit != u.one else ""
        members = [column.value[grouping.labels == label] for label in labels]
        table[f"{name}{unit}"] = [f"{np.min(m):.4g} to {np.max(m):.4g}" for m in members]
    return table
