"""What stacking the runs of an archive costs: scores, the groups that lose least, the frontier."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from astropy.table import QTable, Table
from numpy.typing import NDArray

from obscluster.archive.kinds import ONE_KIND, check_stackable
from obscluster.archive.obs_table import livetimes
from obscluster.config import HierarchicalConfig, RunConfig, SourceConfig
from obscluster.exceptions import ObsClusterWarning, RequestError
from obscluster.features.scaling import feature_matrix
from obscluster.files.output import results_directory
from obscluster.files.records import versions
from obscluster.grouping.base import Grouping
from obscluster.grouping.cuts import group_by_cut
from obscluster.grouping.method import scaled_features
from obscluster.information.cluster import information_partitions
from obscluster.information.loss import loss_table
from obscluster.information.scores import Scores
from obscluster.plots.quality import write_frontier_plot
from obscluster.workflow.group import group_runs
from obscluster.workflow.runs import Runs

__all__ = [
    "frontier",
    "write_frontier",
]

Labels = NDArray[np.int64]


def frontier(
    config: RunConfig, runs: Runs, scores: Scores, max_groups: int | None = None
) -> QTable:
    """Loss and error inflation against the number of groups, for several ways to group.

    Parameters
    ----------
    config : `~obscluster.config.RunConfig`
        Features and scaling are for Ward's tree.
    runs : `~obscluster.workflow.runs.Runs`
        The observations and their features.
    scores : `~obscluster.information.scores.Scores`
        Their expected counts.
    max_groups : int, optional
        Largest number of groups; as many as there are runs, at most 20, unless told.

    Returns
    -------
    table : `~astropy.table.QTable`
        See `loss_table`; ``grouping`` is "information", "ward" (tree on the features),
        "zenith median" or "all stacked".
    """
    usable = scores.usable
    complete: NDArray[np.bool_] = np.zeros(len(usable), dtype=bool)
    if runs.names:
        scaled = scaled_features(runs.table, runs.names, config.scaling)
        complete = np.asarray(np.isfinite(feature_matrix(scaled)[0]).all(axis=1))
    if not usable.any():
        raise RequestError(f"no run has expected counts: {'; '.join(sorted(set(scores.notes)))}")
    with_tree = bool((usable & complete).any())
    if not with_tree:
        text = "; ".join(dict.fromkeys(note for note in runs.features["notes"] if note))
        warnings.warn(
            f"no tree on {', '.join(runs.names)}, which no run has ({text}); name others by "
            "--features",
            ObsClusterWarning,
            stacklevel=2,
        )
    # The same runs for all, so that the numbers can be compared.
    rows = np.flatnonzero(usable & complete if with_tree else usable)
    n_runs = len(rows)
    scores, table = scores.select(rows), runs.table[rows]
    check_stackable(runs.kinds, {"the frontier": scores.obs_ids.tolist()}, ONE_KIND)
    most = min(max_groups or 20, n_runs)
    fit_background = config.counts.fit_background
    tables = []
    best = information_partitions(scores, most, fit_background=fit_background)
    tables.append(_named("information", scores, best, fit_background))
    ward = {}
    for n_groups in range(1, most + 1) if with_tree else ():
        method = HierarchicalConfig(n_groups=n_groups)
        ward[n_groups] = group_runs(table, runs.names, method, config.scaling)
    if ward:
        tables.append(_named("ward", scores, ward, fit_background))
    obs_table = runs.obs_table[rows]
    if n_runs > 1 and np.isfinite(obs_table.quantity("ZEN_PNT").value).any():
        split = group_by_cut(obs_table, "ZEN_PNT", "median")
        tables.append(_named("zenith median", scores, {2: split}, fit_background))
    stacked = np.ones(n_runs, dtype=np.int64)
    tables.append(loss_table(scores, {"all stacked": stacked}, fit_background))
    result = QTable(np.concatenate([np.asarray(Table(t)) for t in tables]))
    for name in tables[0].colnames:
        result[name].unit = tables[0][name].unit if hasattr(tables[0][name], "unit") else None
    hours = livetimes(runs.obs_table, runs.features)[rows]
    result.meta = {
        "n_obs": n_runs,
        "livetime": f"{np.nansum(hours):.4f} h",
        "source": (config.source or SourceConfig()).model_dump(),
        "parameters": list(scores.names),
        "features": runs.names,
    }
    return result


def _named(
    name: str, scores: Scores, groupings: Mapping[int, Grouping], fit_background: bool
) -> QTable:
    # A tree whose merges are equally high may have no cut with a certain number of groups.
    labels = {str(n): grouping.label_of(scores.obs_ids) for n, grouping in groupings.items()}
    table = loss_table(scores, labels, fit_background)
    table["grouping"] = np.full(len(table), name, dtype="U16")
    return table


def write_frontier(
    table: QTable, output: Path, overwrite: bool = False, archive: Path | None = None
) -> list[str]:
    """Write a frontier as a table and a plot.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        See `obscluster.workflow.frontier.frontier`.
    output : `~pathlib.Path`
        Directory, which appears whole or not at all.
    overwrite : bool
        Replace earlier results in it.
    archive : `~pathlib.Path`, optional
        Directory of the archive, into which nothing is written.
    """
    with results_directory(output, "frontier", overwrite, archive) as staging:
        content = table.copy()
        content.meta["versions"] = versions()
        content.write(staging / "frontier.ecsv", format="ascii.ecsv")
        write_frontier_plot(table, staging / "frontier.png")
    return ["frontier.ecsv", "frontier.png"]
