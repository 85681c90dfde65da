"""From an archive to a table of runs: select, compute features, add what constraints ask for."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Column, MaskedColumn, QTable, Table
from numpy.typing import NDArray

from obscluster.archive.description import open_archive
from obscluster.archive.kinds import (
    WITHIN,
    Kind,
    code_of,
    kind_of,
    kind_texts,
    packed,
    settled,
    unpacked,
)
from obscluster.archive.obs_table import LIVETIME, ObservationTable, several_rows
from obscluster.archive.observation import Observation
from obscluster.archive.quantities import QUANTITIES, texts_of
from obscluster.archive.selection import Target, resolve_target
from obscluster.archive.store import DataStore
from obscluster.config import DEFAULT_FEATURES, RunConfig, SourceConfig
from obscluster.exceptions import ObsClusterWarning, RequestError, SkippedRunWarning, unknown_name
from obscluster.features.catalog import FEATURES, load_features
from obscluster.features.conditions import KIND
from obscluster.features.scaling import feature_names
from obscluster.features.table import get_features
from obscluster.files.output import check_outside
from obscluster.grouping.method import TIME
from obscluster.information.counts import make_binning
from obscluster.information.scores import Scores, get_scores
from obscluster.information.source import make_source
from obscluster.parallel.engine import Progress, get_engine
from obscluster.values.columns import is_numeric
from obscluster.values.parsing import background_of

__all__ = [
    "Runs",
    "Selected",
    "characterise",
    "default_features",
    "feature_requests",
    "scores_of",
    "select_runs",
    "with_features",
]


@dataclass(frozen=True, eq=False)
class Selected:
    """Observations of an archive; see `Runs` for the parts."""

    data_store: DataStore
    obs_table: ObservationTable
    selections: list[dict[str, Any]]
    cut_flow: Table
    target: Target | None

    @property
    def unread(self) -> dict[int, str]:
        """Observations of which a file could not be read, and why; see `Runs.unread`."""
        files = self.data_store.obs_table.files
        unread = {} if files is None else files.unread
        concerned = set(np.asarray(self.obs_table["OBS_ID"]).tolist())
        concerned.update(*self.cut_flow.meta.get("unknown", {}).values())
        return {obs_id: why for obs_id, why in unread.items() if obs_id in concerned}


@dataclass(frozen=True, eq=False)
class Runs:
    """Observations of an archive, and what characterises them.

    Parameters
    ----------
    data_store : `~obscluster.archive.store.DataStore`
        The archive.
    obs_table : `~obscluster.archive.obs_table.ObservationTable`
        The selected observations.
    selections : list of dict
        What selected them.
    cut_flow : `~astropy.table.Table`
        How many each step dropped.
    target : `~obscluster.archive.selection.Target` or None
        Where the features were evaluated.
    features : `~astropy.table.QTable`
        Feature table, one row per selected observation.
    names : list of str
        Columns of it to cluster by.
    table : `~astropy.table.QTable`
        The features, and the columns of the obs-index that cuts and constraints ask for.
    """

    data_store: DataStore
    obs_table: ObservationTable
    selections: list[dict[str, Any]]
    cut_flow: Table
    target: Target | None
    features: QTable
    names: list[str]
    table: QTable

    @property
    def observations(self) -> list[Observation]:
        """The selected observations; one that the hdu-index does not know has no files."""
        return _observations(self.data_store, self.obs_table)

    @property
    def unread(self) -> dict[int, str]:
        """Observations of which a file could not be read, and why.

        Those that were selected, and those of which the selection therefore did not know whether
        they belong to it.
        """
        selected = Selected(
            self.data_store, self.obs_table, self.selections, self.cut_flow, self.target
        )
        return selected.unread | dict(self.features.meta.get("unread", {}))

    @property
    def kinds(self) -> dict[int, Kind]:
        """Kind of each observation: what it may be stacked with."""
        obs_ids = self.features["obs_id"].tolist()
        return unpacked(obs_ids, self.features.meta.get("kinds", ()))


def select_runs(config: RunConfig) -> Selected:
    """Observations of an archive that a description asks for.

    Raises
    ------
    RequestError
        If the archive cannot be read, or the selection leaves no run.
    """
    # Workers elsewhere do not stand in our directory.
    remote_work = config.scheduler is not None
    data_store = open_archive(config.archive, remote_work)
    table = data_store.obs_table
    target = None
    selections = [step.keywords for step in config.selection]
    if config.target is not None:
        target = resolve_target(table, config.target, config.radius, config.frame)
        selections.insert(0, dict(target.selection))
    selected = table.select_observations(selections)
    cut_flow = table.cut_flow(selections)
    if len(table) == 0:
        raise RequestError(f"{config.archive_path}: the archive has no run")
    if len(selected) == 0:
        steps = "; ".join(
            f"{row['selection']} leaves {row['passed']}"
            + (f" ({row['unknown']} unknown)" if row["unknown"] else "")
            for row in cut_flow
        )
        raise RequestError(f"the selection leaves no run: {steps}; widen it")
    if text := several_rows(selected) or data_store.ambiguous_parts(selected):
        raise RequestError(f"{config.archive_path}: {text}")
    return Selected(data_store, selected, selections, cut_flow, target)


def characterise(
    config: RunConfig,
    progress: Progress | None = None,
    selected: Selected | None = None,
    features: QTable | None = None,
) -> Runs:
    """Select observations of an archive and compute what their grouping needs.

    Parameters
    ----------
    config : `~obscluster.config.RunConfig`
        What to do.
    progress : callable, optional
        ``progress(iterable, total, what)`` wraps long loops.
    selected : `Selected`, optional
        The observations, if they are known already.
    features : `~astropy.table.QTable`, optional
        Their features, if they are known already.

    Raises
    ------
    RequestError
        If the archive cannot be read, the selection leaves no run, or a name is unknown.
    """
    selected = select_runs(config) if selected is None else selected
    data_store, obs_table = selected.data_store, selected.obs_table
    clustered, beside = feature_requests(config, obs_table)
    if features is None:
        names = [*clustered, *beside]
        features = _features(config, data_store, obs_table, selected.target, names, progress)
        # Put the kinds of the runs, which were numbers, into the header of their features.
        codes = np.asarray(features[KIND.name].value)
        features.remove_column(KIND.name)
        features.meta["names"].remove(KIND.name)
        _, first = np.unique(codes[np.isfinite(codes)], return_index=True)
        rows = np.flatnonzero(np.isfinite(codes))[first]
        # One run tells what the number of all others of its kind stands for.
        known = {
            code_of(kind): kind for kind in map(kind_of, _observations(data_store, obs_table[rows]))
        }
        kinds = settled([known.get(code, Kind()) for code in codes.tolist()])
        features.meta["kinds"] = packed(features["obs_id"].tolist(), kinds)
        if LIVETIME in beside:
            # It is there for the sums, and shown as such.
            features.meta["names"].remove(LIVETIME)
    # What is computed for constraints alone does not cluster.
    aside = [n for n in features.colnames for name in beside if n == name or _at(n) == name]
    names = [name for name in feature_names(features) if name not in aside]
    runs = Runs(
        data_store,
        obs_table,
        selected.selections,
        selected.cut_flow,
        selected.target,
        features,
        names,
        features.copy(),
    )
    _add_columns(runs, _columns(config, obs_table))
    return runs


def _at(column: str) -> str:
    """Name of a feature without its energy."""
    return column.partition("@")[0]


def feature_requests(config: RunConfig, selected: ObservationTable) -> tuple[list[str], list[str]]:
    """Features to group by, and features for constraints alone."""
    clustered = list(config.features.names or default_features(selected))
    beside = list(config.constraints.max_spread)
    named = config.grouping.columns(config.constraints)
    if named:
        clustered = [name for name, way in named if not _is_text(selected, name, way)]
    if config.constraints.contiguous:
        beside.append(TIME)
    # What all sums of time are made of.
    beside.append(LIVETIME)
    known = {*clustered, *map(_at, clustered)}
    return list(dict.fromkeys(clustered)), [n for n in dict.fromkeys(beside) if n not in known]


def default_features(selected: ObservationTable) -> tuple[str, ...]:
    """Features for runs of which nobody says by what to group them, see `DEFAULT_FEATURES`."""
    files = selected.files
    index = None if files is None else files.hdu_index
    listed = [] if index is None else [set(index.locations(*index.key_of(r))) for r in selected]
    known = [parts for parts in listed if parts]
    found = [
        name
        for name in DEFAULT_FEATURES
        if FEATURES[name].needs and known and all(set(FEATURES[name].needs) <= p for p in known)
    ]
    return tuple(found[:2] if len(found) > 1 else [*found, DEFAULT_FEATURES[-1]])


def with_features(config: RunConfig, selected: ObservationTable) -> RunConfig:
    """The description with its features by name; warns if these are not the usual ones."""
    if config.features.names is not None:
        return config
    names = default_features(selected)
    if config.grouping.clusters and names != DEFAULT_FEATURES[:2]:
        text = f"features {' and '.join(names)} are taken, which all runs have"
        lacking = [name for name in DEFAULT_FEATURES[:2] if name not in names]
        warnings.warn(
            f"{text} (no {' and no '.join(lacking)}); name others by --features",
            ObsClusterWarning,
            stacklevel=3,
        )
    features = config.features.model_copy(update={"names": names})
    return config.model_copy(update={"features": features})


def _is_text(table: Table, name: str, way: str | None) -> bool:
    """Whether a column is taken from the obs-index as it is, rather than as a number."""
    if way is None:
        return False
    if name not in table.colnames:
        # A feature, or what headers say.
        return name not in FEATURES and name not in QUANTITIES and way == "categories"
    text = name not in QUANTITIES and not is_numeric(table[name])
    return text or way == "categories"


def _columns(config: RunConfig, selected: ObservationTable) -> list[str]:
    """Columns that cuts and constraints ask for."""
    asked = config.constraints
    names = list(asked.within)
    named = config.grouping.columns(asked)
    names += [name for name, way in named if _is_text(selected, name, way)]
    if asked.per_pointing:
        names += ["RA_PNT", "DEC_PNT"]
    return list(dict.fromkeys(names))


def _add_columns(runs: Runs, names: list[str]) -> None:
    for name in names:
        if name == WITHIN and name not in runs.obs_table.colnames:
            runs.table[name] = _texts(np.array(kind_texts(runs.kinds.values())))
        elif name not in runs.table.colnames:
            runs.table[name] = _column(runs.obs_table, name)


def _texts(texts: NDArray[np.str_]) -> Column:
    """Column of texts, in which the empty ones are missing."""
    return MaskedColumn(texts, mask=texts == "") if (texts == "").any() else Column(texts)


def _column(selected: ObservationTable, name: str) -> Any:
    """Column of the obs-index, completed by what the headers say where it lacks."""
    there = name in selected.colnames
    if name not in QUANTITIES:
        if there and is_numeric(selected[name]):
            return Column(selected[name])
        if there and not selected.files:
            return selected[name]
        texts = texts_of(selected, name)
        if there or any(texts):
            return _texts(texts)
        known = {*selected.colnames, *QUANTITIES}
        raise RequestError(unknown_name("column", name, known))
    return Column(selected.quantity(name).value)


def _observations(data_store: DataStore, selected: ObservationTable) -> list[Observation]:
    obs_ids = np.asarray(selected["OBS_ID"]).tolist()
    known = {obs.obs_id: obs for obs in data_store.get_observations(selected, skip_missing=True)}
    # A run that the hdu-index does not know keeps its row.
    return [
        known.get(obs_id) or Observation(obs_id, {}, row, data_store.base_dir)
        for obs_id, row in zip(obs_ids, selected, strict=True)
    ]


def _features(
    config: RunConfig,
    data_store: DataStore,
    selected: ObservationTable,
    target: Target | None,
    names: list[str],
    progress: Progress | None,
) -> QTable:
    observations = _observations(data_store, selected)
    asked = config.features
    if asked.cache is not None:
        cache = Path(os.path.expandvars(asked.cache)).expanduser()
        check_outside(cache, data_store.base_dir, "cache")
    with warnings.catch_warnings():
        # What was skipped is part of the result, see GroupResult.unassigned.
        warnings.simplefilter("ignore", SkippedRunWarning)
        return get_features(
            observations,
            [*names, KIND],
            list(asked.energy),
            position=target.position if target is not None and asked.offset is None else None,
            fixed_offset=asked.offset,
            containment_fraction=asked.containment_fraction,
            own=load_features([Path(name) for name in asked.files]),
            engine=get_engine(config.workers, config.scheduler),
            cache=asked.cache,
            progress=None
            if progress is None
            else lambda rows: progress(rows, len(observations), "features"),
        )


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


def _background(text: str, edges: NDArray[np.float64]) -> Any:
    """Word, or rates with unit: one per energy bin, or that of all, which falls as E^-2.7."""
    try:
        asked = background_of(text)
    except ValueError as problem:
        raise RequestError(f"background {text!r}; {problem}") from None
    if isinstance(asked, str) or len(asked) > 1:
        return asked
    # The spectrum of cosmic rays, between the edges of each bin.
    share = -np.diff(edges**-1.7)
    return asked[0] * share / share.sum()
