"""The plots that go with every result, as PNG files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.table import Column, QTable, Table
from matplotlib.figure import Figure

from obscluster.columns import full_turn, numbers
from obscluster.grouping.base import UNASSIGNED, Grouping
from obscluster.report.dendrogram import plot_dendrogram
from obscluster.report.plots import plot_conditions, plot_features, save_figure
from obscluster.scaling import feature_names

__all__ = ["write_plots"]

_FIGSIZE = (7, 5)
# Second axis of the plot of observing conditions: the first of these that the archive has.
_CONDITIONS = ("MUONEFF", "NSBLEVEL", "AZ_PNT", "LIVETIME", "ONTIME", "TSTART", "N_TELS")


def write_plots(
    directory: Path, obs_table: Table, features: QTable, grouping: Grouping
) -> list[str]:
    """Draw observing conditions, features and tree of a grouping.

    Parameters
    ----------
    directory : `~pathlib.Path`
        Where the PNG files go.
    obs_table : `~astropy.table.Table`
        The observations, rows as in the grouping.
    features : `~astropy.table.QTable`
        Their features.
    grouping : `~obscluster.grouping.base.Grouping`
        The groups.

    Returns
    -------
    files : list of str
        Names of the files: ``conditions.png``, ``features.png``, ``dendrogram.png``, as far as
        there is something to draw.
    """
    names: dict[int | str, str] = dict(grouping.names.items())
    files = []
    by = grouping.parameters.get("by")
    x = by or "ZEN_PNT"
    y = next((c for c in _CONDITIONS if c in obs_table.colnames and c != x), None)
    table = obs_table if by is None else _with_quantity(obs_table, features, grouping)
    if x in table.colnames and y is not None:
        figure = Figure(figsize=_FIGSIZE, layout="constrained")
        cut = grouping.parameters["edges"] if by else None
        plot_conditions(table, grouping.labels, x, y, cut=cut, names=names, ax=figure.subplots())
        files.append(_save(figure, directory, "conditions.png"))
    if not by:
        figure = Figure(figsize=_FIGSIZE, layout="constrained")
        x, *rest = feature_names(features)
        y = rest[0] if rest else None
        plot_features(features, grouping.labels, x, y, names=names, ax=figure.subplots())
        files.append(_save(figure, directory, "features.png"))
    if grouping.linkage is not None and len(grouping.linkage):
        figure = Figure(figsize=(9, 5), layout="constrained")
        assigned = grouping.labels != UNASSIGNED
        method = grouping.parameters.get("linkage", {}).get("method", "")
        plot_dendrogram(
            grouping.linkage,
            grouping.labels[assigned],
            obs_ids=np.asarray(grouping.obs_ids)[assigned],
            names=names,
            height_label=f"{method.capitalize()} distance of scaled features".strip(),
            ax=figure.subplots(),
        )
        files.append(_save(figure, directory, "dendrogram.png"))
    return files


def _with_quantity(obs_table: Table, features: QTable, grouping: Grouping) -> Table:
    """Observation table with the quantity that was cut, as it was cut.

    It may be a feature rather than a column, and an angle counts from the first edge.
    """
    by, edges = grouping.parameters["by"], grouping.parameters["edges"]
    column, values = features[by], numbers(features[by])
    turn = full_turn(by, column)
    if turn is not None:
        start = edges[0] if grouping.parameters["method"] == "edges" else 0.0
        values = start + np.mod(values - start, turn)
    table = Table(obs_table, copy=False)
    table[by] = Column(values, unit=column.unit, description=column.info.description)
    return table


def _save(figure: Figure, directory: Path, name: str) -> str:
    save_figure(figure, directory / name)
    return name
