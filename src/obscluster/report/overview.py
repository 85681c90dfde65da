"""The plots that go with every result, as PNG files."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from astropy.table import Column, QTable, Table
from matplotlib.figure import Figure

from obscluster.assessment.suggestion import Suggestion
from obscluster.columns import full_turn, numbers
from obscluster.grouping.base import UNASSIGNED, Grouping
from obscluster.grouping.methods import TIME
from obscluster.grouping.rules import Bins, Cells
from obscluster.report.dendrogram import plot_dendrogram
from obscluster.report.plots import plot_conditions, plot_features, save_figure
from obscluster.report.quality import plot_quality
from obscluster.scaling import feature_names

__all__ = ["write_plots", "write_quality_plot"]

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
    axes = grouping.rule.axes if isinstance(grouping.rule, Cells) else ()
    cuts = [a for a in axes if isinstance(a, Bins) and a.name in features.colnames]
    table = _with_quantities(obs_table, features, cuts)
    x = cuts[0].name if cuts else "ZEN_PNT"
    y = cuts[1].name if len(cuts) > 1 else _other_condition(obs_table, x)
    if x in table.colnames and y is not None:
        figure = Figure(figsize=_FIGSIZE, layout="constrained")
        edges = [e for e in cuts[0].edges if np.isfinite(e)] if cuts else None
        plot_conditions(table, grouping.labels, x, y, cut=edges, names=names, ax=figure.subplots())
        files.append(_save(figure, directory, "conditions.png"))
    if not axes or x == TIME:
        figure = Figure(figsize=_FIGSIZE, layout="constrained")
        x, *rest = [name for name in feature_names(features) if name != TIME]
        y = rest[0] if rest else None
        plot_features(features, grouping.labels, x, y, names=names, ax=figure.subplots())
        files.append(_save(figure, directory, "features.png"))
    if grouping.linkage is not None and len(grouping.linkage):
        figure = Figure(figsize=(9, 5), layout="constrained")
        assigned = grouping.labels != UNASSIGNED
        method = grouping.parameters.get("linkage", {}).get("method", "")
        height = f"{method.capitalize()} distance of scaled features".strip()
        if grouping.parameters["method"] == "information":
            height = "information lost (groups are refined, and need not be a cut)"
        plot_dendrogram(
            grouping.linkage,
            grouping.labels[assigned],
            obs_ids=np.asarray(grouping.obs_ids)[assigned],
            names=names,
            height_label=height,
            ax=figure.subplots(),
        )
        files.append(_save(figure, directory, "dendrogram.png"))
    return files


def write_quality_plot(directory: Path, quality: Table, suggestion: Suggestion | None) -> str:
    """Draw the quality against the number of groups, as ``quality.png``.

    Parameters
    ----------
    directory : `~pathlib.Path`
        Where the PNG file goes.
    quality : `~astropy.table.Table`
        See `obscluster.assessment.quality`.
    suggestion : `~obscluster.assessment.Suggestion` or None
        The number to mark.
    """
    figure = plot_quality(quality, suggestion)
    save_figure(figure, directory / "quality.png")
    plt.close()
    return "quality.png"


def _other_condition(table: Table, x: str) -> str | None:
    """What to draw against a quantity: the first condition that the archive has."""
    return next((c for c in _CONDITIONS if c in table.colnames and c != x), None)


def _with_quantities(obs_table: Table, features: QTable, cuts: list[Bins]) -> Table:
    """Observation table with the quantities that were cut, as they were cut.

    They may be features rather than columns, and an angle counts from the first edge.
    """
    table = Table(obs_table, copy=False)
    for axis in cuts:
        column, values = features[axis.name], numbers(features[axis.name])
        turn = full_turn(axis.name, column)
        if turn is not None:
            start = axis.edges[0] if np.isfinite(axis.edges[0]) else 0.0
            values = start + np.mod(values - start, turn)
        table[axis.name] = Column(values, unit=column.unit, description=column.info.description)
    return table


def _save(figure: Figure, directory: Path, name: str) -> str:
    save_figure(figure, directory / name)
    return name
