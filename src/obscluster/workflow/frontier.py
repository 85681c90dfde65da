"""What stacking the runs of an archive costs: scores, the groups that lose least, the frontier."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.table import QTable, Table
from numpy.typing import NDArray

from obscluster.archive.kinds import KEEP_APART, ONE_KIND, Kind, check_stackable
from obscluster.archive.obs_table import livetimes
from obscluster.config import HierarchicalConfig, InformationConfig, RunConfig, SourceConfig
from obscluster.exceptions import ObsClusterWarning, RequestError
from obscluster.features.scaling import feature_matrix
from obscluster.files.output import results_directory
from obscluster.files.records import versions
from obscluster.grouping import UNASSIGNED
from obscluster.grouping.base import Grouping
from obscluster.grouping.cuts import categories_of, group_by_cut
from obscluster.grouping.methods import scaled_features
from obscluster.grouping.rules import Cells, NearestRun
from obscluster.grouping.toolbox import group_runs
from obscluster.information.cluster import cluster_by_information, information_partitions
from obscluster.information.counts import make_binning
from obscluster.information.loss import loss_summary
from obscluster.information.scores import Scores, get_scores
from obscluster.information.source import make_source
from obscluster.parallel.engine import Progress, get_engine
from obscluster.values.tolerance import minimum_hours
from obscluster.workflow.runs import Runs

__all__ = [
    "compared_groupings",
    "frontier",
    "group_by_information",
    "loss_table",
    "scores_of",
    "write_frontier",
]

Labels = NDArray[np.int64]


def scores_of(config: RunConfig, runs: Runs, progress: Progress | None = None) -> Scores:
    """Expected counts and their derivatives, for the source that is asked about.

    Parameters
    ----------
    config : `~obscluster.config.RunConfig`
        With ``target``; ``source`` is 1 % of the Crab unless told.
    runs : `~obscluster.workflow.runs.Runs`
        The selected observations.
    progress : callable, optional
        ``progress(iterable, total, what)`` wraps long loops.

    Raises
    ------
    RequestError
        If there is no target, or a value is not usable.
    """
    if runs.target is None:
        raise RequestError("expected counts need a target, where the source is")
    counts = config.counts
    observations = runs.observations
    binning = make_binning(list(counts.energy), counts.rings, counts.bins_per_decade)
    return get_scores(
        observations,
        make_source(**(config.source or SourceConfig()).model_dump()),
        runs.target.position,
        binning,
        safe_energy=counts.safe_energy,
        aeff_fraction=counts.aeff_fraction,
        background=_background(counts.background, binning.energies),
        engine=get_engine(config.workers, config.scheduler),
        progress=None
        if progress is None
        else lambda rows: progress(rows, len(observations), "expected counts"),
    )


def group_by_information(config: RunConfig, runs: Runs, scores: Scores) -> Grouping:
    """Groups that lose least, under the constraints of the description.

    New runs find their group by the features: that of the most similar run.

    Parameters
    ----------
    config : `~obscluster.config.RunConfig`
        With method information.
    runs : `~obscluster.workflow.runs.Runs`
        The observations and their features.
    scores : `~obscluster.information.scores.Scores`
        Their expected counts.
    """
    if not isinstance(config.grouping, InformationConfig):
        raise RequestError(f"method {config.grouping.method}; expected information")
    weights, least = _weights(config, runs)
    grouping = cluster_by_information(
        scores,
        config.grouping.n_groups,
        config.grouping.max_loss,
        within=_strata(runs.table, config.constraints.within),
        weights=weights,
        min_weight=least,
        fit_background=config.counts.fit_background,
    )
    unassigned = grouping.labels == UNASSIGNED
    loss = grouping.parameters["loss"]
    inflation = grouping.parameters["error_inflation"]
    groups = "1 group" if grouping.n_groups == 1 else f"{grouping.n_groups} groups"
    text = ", ".join(f"{name} {value:.2%}" for name, value in inflation.items())
    remark = f"stacking into {groups} loses {loss:.2%} of the information; errors grow: {text}"
    before = grouping.parameters["pre_merge_loss"]
    if before > 0:
        remark += f"; at most {before:.4%} by runs merged beforehand, as there are many"
    return replace(
        grouping,
        rule=_rule(config, runs, grouping.labels),
        reasons={
            int(obs_id): note or "its part holds less than the minimum"
            for obs_id, note, out in zip(grouping.obs_ids, scores.notes, unassigned, strict=True)
            if out
        },
        remarks=[remark],
    )


def _rule(config: RunConfig, runs: Runs, labels: Labels) -> NearestRun | None:
    """The group of the run with the most similar features; None if no run has them."""
    scaled = scaled_features(runs.table, runs.names, config.scaling)
    X, names = feature_matrix(scaled)
    if not np.isfinite(X).all(axis=1).any():
        return None
    return NearestRun.fit(scaled.meta["scaling"], names, X, labels)


def loss_table(
    scores: Scores, groupings: Mapping[str, Labels], fit_background: bool = False
) -> QTable:
    """What several groupings lose.

    Parameters
    ----------
    scores : `~obscluster.information.scores.Scores`
        Expected counts of the runs.
    groupings : mapping
        Name to the labels of the runs, in the order of the scores.
    fit_background : bool
        Fit the normalisation of the background of each group.

    Returns
    -------
    table : `~astropy.table.QTable`
        ``grouping``, ``n_groups``, ``loss``, ``lost_time`` (the loss in observing time), and for
        each parameter its ``<name> error`` and ``<name> inflation``.
    """
    rows = []
    for name, labels in groupings.items():
        summary = loss_summary(scores, labels, fit_background)
        row: dict[str, Any] = {
            "grouping": name,
            "n_groups": summary.n_groups,
            "loss": summary.loss,
            "lost_time": summary.lost_time / 3600 * u.h,
        }
        for parameter in scores.names:
            row[f"{parameter} error"] = summary.errors[parameter]
            row[f"{parameter} inflation"] = summary.inflation[parameter]
        rows.append(row)
    return QTable(rows=rows)


def compared_groupings(
    kinds: Mapping[int, Kind], obs_ids: Labels, labels: Labels
) -> dict[str, Labels]:
    """What the loss of a grouping is compared with: everything stacked, where that may be.

    Parameters
    ----------
    kinds : mapping
        Kinds of the runs.
    obs_ids, labels : `~numpy.ndarray`
        The runs and their groups, -1 for none, shape (n_obs,).

    Returns
    -------
    groupings : dict
        ``these groups`` and, unless the runs are of several kinds, ``all stacked``, for
        `loss_table`.

    Raises
    ------
    RequestError
        If a group holds runs that may not be stacked.
    """
    groups = {f"group_{k}": obs_ids[labels == k].tolist() for k in np.unique(labels[labels > 0])}
    check_stackable(kinds, groups, KEEP_APART)
    groupings = {"these groups": labels}
    with suppress(RequestError):
        check_stackable(kinds, {"all": obs_ids[labels != UNASSIGNED].tolist()}, "")
        groupings["all stacked"] = np.where(labels == UNASSIGNED, UNASSIGNED, 1)
    return groupings


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


def _background(text: str, edges: NDArray[np.float64]) -> Any:
    """Word, or rates with unit: one per energy bin, or that of all, which falls as E^-2.7."""
    if text in ("auto", "irf", "events"):
        return text
    *first, last = text.split(",")
    try:
        rate = u.Quantity(last)
        values = [float(value) for value in first] + [float(rate.value)]
    except (TypeError, ValueError):
        raise RequestError(
            f"background {text!r}; expected auto, irf, events, or a rate such as '100 s-1 sr-1'"
        ) from None
    if first:
        return values * rate.unit
    # The spectrum of cosmic rays, between the edges of each bin.
    share = -np.diff(edges**-1.7)
    return rate * share / share.sum()


def _weights(config: RunConfig, runs: Runs) -> tuple[NDArray[np.float64] | None, float]:
    """What is summed for the minimum that groups must hold, and the minimum."""
    asked = config.constraints
    if asked.min_runs is not None:
        return np.ones(len(runs.table)), float(asked.min_runs)
    if asked.min_livetime is None:
        return None, 0.0
    hours = minimum_hours(asked.min_livetime)
    return np.nan_to_num(livetimes(runs.obs_table, runs.features)), hours


def _strata(table: QTable, columns: tuple[str, ...]) -> Labels | None:
    """Number of the combination of values of each run."""
    if not columns:
        return None
    cells, _ = Cells(tuple(categories_of(table, c) for c in columns), {}).cells(table)
    return np.unique(cells, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


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
    # Matplotlib takes a second to load and is needed nowhere else.
    from obscluster.plots.quality import write_frontier_plot

    with results_directory(output, "frontier", overwrite, archive) as staging:
        content = table.copy()
        content.meta["versions"] = versions()
        content.write(staging / "frontier.ecsv", format="ascii.ecsv")
        write_frontier_plot(table, staging / "frontier.png")
    return ["frontier.ecsv", "frontier.png"]
