"""The whole story: archive, selection, features, groups, results."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.table import QTable, Table
from numpy.typing import NDArray

from obscluster.columns import numbers
from obscluster.config import CutsConfig, RunConfig
from obscluster.engine import get_engine
from obscluster.exceptions import ObsClusterWarning, RequestError, SkippedRunWarning
from obscluster.features.catalog import load_features
from obscluster.features.table import get_features
from obscluster.grouping.base import UNASSIGNED, Grouping
from obscluster.grouping.cuts import group_by_cut, group_by_edges, group_by_quantiles
from obscluster.grouping.hierarchical import group_hierarchical
from obscluster.obs_table import ObservationTable
from obscluster.observation import Observation
from obscluster.results import (
    checksum,
    staged_directory,
    versions,
    write_obs_index,
    write_run_lists,
)
from obscluster.scaling import feature_matrix, feature_names, standard_scaler
from obscluster.store import DataStore
from obscluster.target import Target, resolve_target

__all__ = ["GroupResult", "group_observations", "livetimes", "write_results"]

FEATURES_FILE = "features.ecsv"
# Features that vary less than this, relatively, do not tell runs apart.
_SMALL_SPREAD = 1e-2

Progress = Callable[[Iterable[Any], int, str], Iterable[Any]]


@dataclass(frozen=True, eq=False)
class GroupResult:
    """A grouping and what led to it.

    Parameters
    ----------
    config : `~obscluster.config.RunConfig`
        What was asked.
    data_store : `~obscluster.store.DataStore`
        The archive.
    obs_table : `~obscluster.obs_table.ObservationTable`
        The selected observations.
    selections : list of dict
        What selected them.
    cut_flow : `~astropy.table.Table`
        How many each step dropped.
    target : `~obscluster.target.Target` or None
        Where the features were evaluated.
    features : `~astropy.table.QTable`
        Feature table, one row per selected observation.
    scaling : dict
        Constants that scaled the features, empty for cuts.
    grouping : `~obscluster.grouping.base.Grouping`
        The groups, rows as in ``features``.
    """

    config: RunConfig
    data_store: DataStore
    obs_table: ObservationTable
    selections: list[dict[str, Any]]
    cut_flow: Table
    target: Target | None
    features: QTable
    scaling: dict[str, Any]
    grouping: Grouping

    @property
    def unassigned(self) -> dict[int, str]:
        """Observations in no group, and why."""
        rows = np.flatnonzero(self.grouping.labels == UNASSIGNED)
        notes = self.features["notes"]
        return {
            int(self.grouping.obs_ids[row]): str(notes[row]) or self._outside(int(row))
            for row in rows
        }

    def _outside(self, row: int) -> str:
        column = self.grouping.parameters.get("by")
        return f"{column} = {self.features[column][row]:.4g} is outside the edges"


def group_observations(config: RunConfig, progress: Progress | None = None) -> GroupResult:
    """Select observations of an archive, characterise them, and group them.

    Parameters
    ----------
    config : `~obscluster.config.RunConfig`
        What to do.
    progress : callable, optional
        ``progress(iterable, total, what)`` wraps long loops.

    Returns
    -------
    result : `GroupResult`
        The groups and what led to them.

    Raises
    ------
    RequestError
        If the archive cannot be read, the selection leaves no run, or the request cannot be met.
    """
    data_store = DataStore.from_dir(config.archive)
    table = data_store.obs_table
    target = None
    selections = [dict(step) for step in config.selection]
    if config.target is not None:
        target = resolve_target(table, config.target, config.radius, config.frame)
        selections.insert(0, dict(target.selection))
    selected = table.select_observations(selections)
    cut_flow = table.cut_flow(selections)
    if len(table) == 0:
        raise RequestError(f"{config.archive}: the archive has no run")
    if len(selected) == 0:
        steps = "; ".join(f"{row['selection']} leaves {row['passed']}" for row in cut_flow)
        raise RequestError(f"the selection leaves no run: {steps}; widen it")
    features = _features(config, data_store, selected, target, progress)
    scaling: dict[str, Any] = {}
    if isinstance(config.grouping, CutsConfig):
        grouping = _group_by(features, config.grouping)
    else:
        if config.features.missing == "drop-feature":
            features = _drop_incomplete(features)
        _check_any_complete(features)
        _warn_of_small_spread(features)
        scaled = standard_scaler(features)
        scaling = scaled.meta["scaling"]
        options = {"method": config.grouping.linkage, "metric": config.grouping.metric}
        grouping = group_hierarchical(scaled, options, {"t": config.grouping.n_groups})
    return GroupResult(
        config, data_store, selected, selections, cut_flow, target, features, scaling, grouping
    )


def write_results(
    result: GroupResult, output: Path, overwrite: bool = False, plots: bool = True
) -> list[str]:
    """Write a result: feature table, groups, run lists, obs-index, record and plots.

    Parameters
    ----------
    result : `GroupResult`
        What to write.
    output : `~pathlib.Path`
        Directory, which appears whole or not at all.
    overwrite : bool
        Replace earlier results in it.
    plots : bool
        Draw plots as PNG.

    Returns
    -------
    files : list of str
        Names of the files in the output.
    """
    with staged_directory(output, overwrite) as staging:
        files = [FEATURES_FILE]
        result.features.write(staging / FEATURES_FILE, format="ascii.ecsv")
        files += write_run_lists(staging, result.grouping)
        files += write_obs_index(staging, result.data_store.obs_table, result.grouping)
        if plots:
            # Matplotlib takes a second to load and is needed nowhere else.
            from obscluster.report.overview import write_plots

            files += write_plots(staging, result.obs_table, result.features, result.grouping)
        features = result.features.copy()
        features.remove_column("notes")
        grouping_files = ["groups.ecsv", "groups.yaml"]
        grouping_files += ["linkage.ecsv"] if result.grouping.linkage is not None else []
        files += grouping_files
        result.grouping.write(staging, features, _record(result) | {"files": sorted(files)})
    return sorted(files)


def _features(
    config: RunConfig,
    data_store: DataStore,
    selected: ObservationTable,
    target: Target | None,
    progress: Progress | None,
) -> QTable:
    obs_ids = np.asarray(selected["OBS_ID"]).tolist()
    known = {obs.obs_id: obs for obs in data_store.get_observations(obs_ids, skip_missing=True)}
    # A run that the hdu-index does not know keeps its row.
    observations = [
        known.get(obs_id) or Observation(obs_id, {}, row)
        for obs_id, row in zip(obs_ids, selected, strict=True)
    ]
    asked = config.features
    cuts = config.grouping if isinstance(config.grouping, CutsConfig) else None
    with warnings.catch_warnings():
        # What was skipped is part of the result, see GroupResult.unassigned.
        warnings.simplefilter("ignore", SkippedRunWarning)
        return get_features(
            observations,
            asked.names if cuts is None else cuts.by,
            list(asked.energy),
            position=target.position if target is not None and asked.offset is None else None,
            fixed_offset=asked.offset,
            containment_fraction=asked.containment_fraction,
            own=load_features([Path(name) for name in asked.files]),
            engine=get_engine(config.workers),
            progress=None
            if progress is None
            else lambda rows: progress(rows, len(observations), "features"),
        )


def _drop_incomplete(features: QTable) -> QTable:
    """Leave out the features that some run does not have, and say so."""
    dropped = [
        name for name in feature_names(features) if not np.isfinite(numbers(features[name])).all()
    ]
    if not dropped:
        return features
    if len(dropped) == len(feature_names(features)):
        notes = "; ".join(dict.fromkeys(note for note in features["notes"] if note))
        raise RequestError(f"no feature is there for all runs: {notes}")
    kept = features.copy()
    kept.remove_columns(dropped)
    kept.meta["dropped"] = dropped
    text = f"left out, since some runs do not have them: {', '.join(dropped)}"
    warnings.warn(text, ObsClusterWarning, stacklevel=3)
    return kept


def _warn_of_small_spread(features: QTable) -> None:
    """Say when scaling would blow up differences that hardly exist."""
    X, names = feature_matrix(features)
    spread = np.nanmax(X, axis=0) - np.nanmin(X, axis=0)
    size = np.nanmax(np.abs(X), axis=0)
    relative = np.divide(spread, size, out=np.zeros(len(names)), where=size > 0)
    if len(X) > 1 and relative.max() < _SMALL_SPREAD and relative.max() > 0:
        text = ", ".join(f"{n} by {r:.1g}" for n, r in zip(names, relative, strict=True))
        warnings.warn(
            f"the runs hardly differ, so the groups mean little: {text} of their values",
            ObsClusterWarning,
            stacklevel=3,
        )


def _check_any_complete(features: QTable) -> None:
    X, columns = feature_matrix(features)
    if not np.isfinite(X).all(axis=1).any():
        notes = list(dict.fromkeys(features["notes"]))
        raise RequestError(
            f"none of the {len(features)} runs has all of {', '.join(columns)}: "
            f"{'; '.join(notes[:3])}{' ...' if len(notes) > 3 else ''}"
        )


def _group_by(features: QTable, config: CutsConfig) -> Grouping:
    columns = feature_names(features)
    if len(columns) > 1:
        raise RequestError(f"{config.by} at several energies; give one, such as {columns[0]}")
    if config.edges is not None:
        return group_by_edges(features, columns[0], config.edges)
    if config.quantiles is not None:
        return group_by_quantiles(features, columns[0], config.quantiles)
    return group_by_cut(features, columns[0], config.cut or "median")


def _record(result: GroupResult) -> dict[str, Any]:
    """What a reader needs to see what was done, and to repeat it."""
    labels = result.grouping.labels
    hours = livetimes(result.obs_table)
    groups = {
        label: {
            "n_obs": int((labels == label).sum()),
            "livetime": f"{hours[labels == label].sum():.4f} h",
        }
        for label in range(1, result.grouping.n_groups + 1)
    }
    return {
        "obscluster": "grouping of observations",
        "versions": versions(),
        "config": result.config.model_dump(),
        "archive": str(result.data_store.base_dir),
        "index_files": {path.name: checksum(path) for path in result.data_store.index_files},
        "selection": result.selections,
        "cut_flow": [
            dict(zip(result.cut_flow.colnames, row, strict=True))
            for row in result.cut_flow.iterrows()
        ],
        "features": dict(result.features.meta),
        "feature_files": {name: checksum(Path(name)) for name in result.config.features.files},
        "scaling": result.scaling,
        "n_obs": len(result.grouping),
        "groups": groups,
        "unassigned": result.unassigned,
    }


def livetimes(table: ObservationTable) -> NDArray[np.float64]:
    """Live time of each observation in hours, zero where the index does not say."""
    if "LIVETIME" not in table.colnames:
        return np.zeros(len(table))
    seconds = numbers(table["LIVETIME"], u.s)
    return np.nan_to_num(seconds / 3600)
