"""The plots that go with every result, as PNG files."""

from __future__ import annotations

import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from astropy import units as u
from astropy.table import Column, QTable, Table
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from obscluster.archive.quantities import column_of
from obscluster.assessment.n_groups import Suggestion
from obscluster.exceptions import ObsClusterWarning
from obscluster.features.scaling import feature_names
from obscluster.gadf.keywords import NUMBERS
from obscluster.grouping import UNASSIGNED
from obscluster.grouping.base import Grouping
from obscluster.grouping.method import TIME
from obscluster.grouping.rules import Bins, Cells
from obscluster.plots.dendrogram import plot_dendrogram
from obscluster.plots.quality import plot_quality
from obscluster.plots.scatter import plot_conditions, plot_features, save_figure
from obscluster.values.columns import full_turn, is_numeric, numbers

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
    axes = grouping.rule.axes if isinstance(grouping.rule, Cells) else ()
    cuts = [a for a in axes if isinstance(a, Bins) and a.name in features.colnames]

    def conditions(ax: Axes) -> bool:
        table = _with_quantities(obs_table, features, cuts)
        x = cuts[0].name if cuts else "ZEN_PNT"
        y = cuts[1].name if len(cuts) > 1 else _other_condition(table, x)
        if x not in table.colnames or y is None:
            return False
        edges = [e for e in cuts[0].edges if np.isfinite(e)] if cuts else None
        plot_conditions(table, grouping.labels, x, y, cut=edges, names=names, ax=ax)
        return True

    def clustered(ax: Axes) -> bool:
        if axes and not (cuts and cuts[0].name == TIME):
            return False
        known = feature_names(features)
        x, *rest = [name for name in known if name != TIME] or known
        plot_features(features, grouping.labels, x, rest[0] if rest else None, names=names, ax=ax)
        return True

    def tree(ax: Axes) -> bool:
        if grouping.linkage is None or not len(grouping.linkage):
            return False
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
            ax=ax,
        )
        return True

    files = []
    for name, size, draw in (
        ("conditions.png", _FIGSIZE, conditions),
        ("features.png", _FIGSIZE, clustered),
        ("dendrogram.png", (9, 5), tree),
    ):
        figure = Figure(figsize=size, layout="constrained")
        try:
            if draw(figure.subplots()):
                save_figure(figure, directory / name)
                files.append(name)
        except Exception as error:  # noqa: BLE001 a picture never costs a result
            (directory / name).unlink(missing_ok=True)
            text = f"{name} is left out: it cannot be drawn ({type(error).__name__}: {error})"
            warnings.warn(text, ObsClusterWarning, stacklevel=2)
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
    there = [c for c in _CONDITIONS if c in table.colnames and is_numeric(table[c]) and c != x]
    return there[0] if there else None


def _with_quantities(obs_table: Table, features: QTable, cuts: list[Bins]) -> Table:
    """Observation table with the quantities that were cut, as they were cut.

    They may be features rather than columns, and an angle counts from the first edge.
    """
    table = Table(obs_table, copy=False)
    # In the units of GADF; the first axis also where the index does not have it.
    for name in ("ZEN_PNT", *(c for c in _CONDITIONS if c in table.colnames)):
        known = column_of(obs_table, name).value
        unit = None if known.unit == u.one else known.unit
        table[name] = Column(known.value, unit=unit, description=NUMBERS[name].description)
    for axis in cuts:
        column, values = features[axis.name], numbers(features[axis.name])
        turn = full_turn(axis.name, column)
        if turn is not None:
            start = axis.edges[0] if np.isfinite(axis.edges[0]) else 0.0
            values = start + np.mod(values - start, turn)
        table[axis.name] = Column(values, unit=column.unit, description=column.info.description)
    return table
