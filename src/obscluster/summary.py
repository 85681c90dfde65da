"""A result in a few lines of text."""

from __future__ import annotations

import shutil

import numpy as np
from astropy import units as u
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
    lines += ["", *_fit(_group_rows(result, hours))]
    if grouping.n_groups > _MAX_GROUPS:
        lines.append(f"... and {grouping.n_groups - _MAX_GROUPS} more groups")
    return "\n".join(lines)


def _group_rows(result: GroupResult, hours: NDArray[np.float64]) -> list[list[str]]:
    """Header, and for each group its runs, hours and the range of every feature."""
    grouping, features = result.grouping, result.features
    columns = {name: u.Quantity(features[name]) for name in feature_names(features)}
    units = {name: column.unit.to_string("fits") for name, column in columns.items()}
    rows = [
        ["group", *(["name"] if grouping.names else []), "runs", "livetime"]
        + [f"{name} [{unit}]" if unit else name for name, unit in units.items()]
    ]
    for label in range(1, min(grouping.n_groups, _MAX_GROUPS) + 1):
        inside = grouping.labels == label
        row = [f"group_{label}", str(inside.sum()), f"{hours[inside].sum():.1f} h"]
        if grouping.names:
            row.insert(1, grouping.names.get(label, ""))
        for column in columns.values():
            members = column.value[inside]
            row.append(f"{members.min():.4g} to {members.max():.4g}")
        rows.append(row)
    return rows


def _fit(rows: list[list[str]]) -> list[str]:
    """Lines of a table; one that is too wide for the terminal is turned on its side."""
    width = shutil.get_terminal_size(fallback=(120, 24)).columns
    lines = _lines(rows)
    if len(lines[0]) <= width:
        return lines
    turned = _lines([list(column) for column in zip(*rows, strict=True)])
    return turned if len(turned[0]) < len(lines[0]) else lines


def _lines(rows: list[list[str]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return [text[0], "  ".join("-" * width for width in widths), *text[1:]]
