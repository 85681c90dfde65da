"""The whole story: archive, selection, features, groups, results."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.table import QTable, Table

from obscluster.archive.kinds import KEEP_APART, check_stackable, joined
from obscluster.archive.obs_table import LIVETIME, ObservationTable, livetimes
from obscluster.archive.store import DataStore
from obscluster.config import METHODS, RunConfig
from obscluster.exceptions import ObsClusterWarning, RequestError, SkippedRunWarning, unknown_name
from obscluster.features.scaling import feature_matrix
from obscluster.features.table import count_notes
from obscluster.files.description import validated
from obscluster.files.output import results_directory
from obscluster.files.records import checksum, versions
from obscluster.grouping import UNASSIGNED
from obscluster.grouping.base import Grouping, write_grouping
from obscluster.grouping.constrained import group_constrained
from obscluster.grouping.method import (
    ConstraintsConfig,
    MethodConfig,
    Request,
    ScalingConfig,
    scaled_features,
)
from obscluster.grouping.results import write_obs_index, write_run_lists
from obscluster.information.scores import Scores
from obscluster.parallel.engine import Progress
from obscluster.values.columns import numbers
from obscluster.views.notebook import result_html
from obscluster.workflow.runs import Runs, characterise, scores_of, select_runs, with_features

if TYPE_CHECKING:
    from obscluster.assessment import Suggestion

__all__ = [
    "GroupResult",
    "drop_incomplete",
    "group_observations",
    "group_runs",
    "recorded",
    "write_results",
]

FEATURES_FILE = "features.ecsv"
# Numbers of groups that are tried for n_groups: auto.
_MOST_SUGGESTED = 10
# Features that vary less than this, relatively, do not tell runs apart.
_SMALL_SPREAD = 1e-2


@dataclass(frozen=True, eq=False)
class GroupResult:
    """A grouping and what led to it.

    Parameters
    ----------
    config : `~obscluster.config.RunConfig`
        What was asked.
    runs : `~obscluster.workflow.runs.Runs`
        The observations and their features.
    grouping : `~obscluster.grouping.base.Grouping`
        The groups, rows as in the features.
    unread : mapping
        Runs of which a file could not be read, to the reason: `ReadError.reason` of the first
        error. They are in no group, or in one by what else is known of them; those that the
        selection lost for it count, too. When the cause has passed, they may have another place.
    """

    config: RunConfig
    runs: Runs
    grouping: Grouping
    unread: Mapping[int, str] = field(default_factory=dict)

    @property
    def data_store(self) -> DataStore:
        """The archive."""
        return self.runs.data_store

    @property
    def obs_table(self) -> ObservationTable:
        """The selected observations."""
        return self.runs.obs_table

    @property
    def features(self) -> QTable:
        """Feature table, one row per selected observation."""
        return self.runs.features

    @property
    def cut_flow(self) -> Table:
        """How many observations each step of the selection dropped."""
        return self.runs.cut_flow

    @property
    def unassigned(self) -> Mapping[int, str]:
        """Observations in no group, and why."""
        return self.grouping.reasons

    def _repr_html_(self) -> str:
        """For a notebook: one sentence, the groups with their features, and the cut-flow."""
        hours = livetimes(self.obs_table, self.features)
        return result_html(self.grouping, self.features, hours, self.cut_flow)


def group_runs(
    runs: QTable,
    names: Sequence[str],
    grouping: MethodConfig | str = "hierarchical",
    scaling: ScalingConfig | None = None,
    constraints: ConstraintsConfig | None = None,
    scores: Scores | None = None,
    fit_background: bool = False,
) -> Grouping:
    """Group runs by any method, under any constraints.

    Parameters
    ----------
    runs : `~astropy.table.QTable`
        Runs with ``obs_id``, features in units, and the columns that cuts and constraints name:
        ``livetime`` or ``LIVETIME`` for a minimum livetime, ``RA_PNT`` and ``DEC_PNT`` for one per
        pointing, ``mjd`` for groups that are contiguous in time.
    names : sequence of str
        Which columns to cluster by; cuts name theirs themselves.
    grouping : `~obscluster.grouping.method.MethodConfig` or str
        Method and its options, such as `~obscluster.config.KMeansConfig`, or the name of a method
        with its default options; default: "hierarchical".
    scaling : `~obscluster.config.ScalingConfig`, optional
        How much a difference counts.
    constraints : `~obscluster.config.ConstraintsConfig`, optional
        What groups must keep to.
    scores : `~obscluster.information.scores.Scores`, optional
        Expected counts of a source in the runs, which the method "information" needs.
    fit_background : bool
        For that method: a fit finds the normalisation of the background of each group.

    Returns
    -------
    grouping : `~obscluster.grouping.base.Grouping`
        The groups; ``remarks`` say what constraints did.

    Raises
    ------
    RequestError
        If a name or value is not usable, or the constraints cannot be met.

    Examples
    --------
    >>> from astropy.table import QTable
    >>> runs = QTable({"obs_id": [1, 2, 3], "zenith": [10.0, 11.0, 40.0]})
    >>> group_runs(runs, ["zenith"], "kmeans").labels
    array([1, 1, 2])
    """
    if isinstance(grouping, str):
        if grouping not in METHODS:
            raise RequestError(unknown_name("method", grouping, METHODS))
        grouping = validated(METHODS[grouping], {})
    asked = ConstraintsConfig() if constraints is None else constraints
    # In the order of the identifiers, so that nothing depends on that of the rows.
    order = np.argsort(np.asarray(runs["obs_id"]), kind="stable")
    request = Request(
        runs[order], tuple(names), scaling or ScalingConfig(), asked, scores, fit_background
    )
    return group_constrained(request, grouping).reordered(np.argsort(order, kind="stable"))


def group_observations(
    config: RunConfig, progress: Progress | None = None, runs: Runs | None = None
) -> GroupResult:
    """Select observations of an archive, characterise them, and group them.

    Parameters
    ----------
    config : `~obscluster.config.RunConfig`
        What to do.
    progress : callable, optional
        ``progress(iterable, total, what)`` wraps long loops.
    runs : `~obscluster.workflow.runs.Runs`, optional
        The observations and their features, if they are known already.

    Returns
    -------
    result : `GroupResult`
        The groups and what led to them.

    Raises
    ------
    RequestError
        If the archive cannot be read, the selection leaves no run, or the request cannot be met.
    """
    if runs is None:
        selected = select_runs(config)
        config.grouping.check_archive(selected.data_store)
        config = with_features(config, selected.obs_table)
        runs = characterise(config, progress, selected)
    if config.grouping.completeness == "each":
        for name in runs.names:
            _check_any_complete(runs.features, [name])
    elif config.grouping.completeness == "all":
        if config.features.missing == "drop-feature":
            runs = drop_incomplete(runs)
        _check_any_complete(runs.features, runs.names)
        # Say when scaling would blow up differences that hardly exist.
        X, _ = feature_matrix(runs.features[runs.names])
        spread = np.nanmax(X, axis=0) - np.nanmin(X, axis=0)
        size = np.nanmax(np.abs(X), axis=0)
        relative = np.divide(spread, size, out=np.zeros(len(runs.names)), where=size > 0)
        if len(X) > 1 and relative.max() < _SMALL_SPREAD and relative.max() > 0:
            text = ", ".join(f"{n} by {r:.1g}" for n, r in zip(runs.names, relative, strict=True))
            warnings.warn(
                f"the runs hardly differ, so the groups mean little: {text} of their values",
                ObsClusterWarning,
                stacklevel=3,
            )
    method, suggestion = config.grouping, None
    if getattr(method, "n_groups", None) == "auto":
        suggestion = _suggest(config, runs)
        method = method.model_copy(update={"n_groups": suggestion.n_groups})
    scores = None
    if method.needs_scores:
        with warnings.catch_warnings():
            # What was skipped is part of the result, see GroupResult.unassigned.
            warnings.simplefilter("ignore", SkippedRunWarning)
            scores = scores_of(config, runs, progress)
    grouping = group_runs(
        runs.table,
        runs.names,
        method,
        config.scaling,
        config.constraints,
        scores,
        config.counts.fit_background,
    )
    if suggestion is not None:
        without = ", before constraints" if "constraints" in grouping.parameters else ""
        grouping = replace(
            grouping, remarks=[*grouping.remarks, f"suggested{without}: {suggestion}"]
        )
    check_stackable(runs.kinds, grouping.members, KEEP_APART)
    # Grouping whose reasons say also why features are missing.
    notes = dict(
        zip(runs.features["obs_id"].tolist(), map(str, runs.features["notes"]), strict=True)
    )
    reasons = {
        obs_id: "; ".join(filter(None, [grouping.reasons.get(obs_id, ""), notes[obs_id]]))
        for obs_id in grouping.obs_ids[grouping.labels == UNASSIGNED].tolist()
    }
    grouping = replace(grouping, reasons=reasons)
    return GroupResult(
        config, runs, grouping, {**runs.unread, **({} if scores is None else scores.unread)}
    )


def _suggest(config: RunConfig, runs: Runs) -> Suggestion:
    """Number of groups, from the quality of the groups of one to ten."""
    # scikit-learn takes a second to load.
    from obscluster.assessment import quality, suggest_n_groups

    scaled = scaled_features(runs.table, runs.names, config.scaling)
    n_complete = int(np.isfinite(feature_matrix(scaled)[0]).all(axis=1).sum())
    labels = {}
    with warnings.catch_warnings():
        # What a number that is not taken warns of does not matter.
        warnings.simplefilter("ignore", ObsClusterWarning)
        for n_groups in range(1, min(_MOST_SUGGESTED, n_complete) + 1):
            method = config.grouping.model_copy(update={"n_groups": n_groups})
            tried = group_runs(runs.table, runs.names, method, config.scaling)
            labels[n_groups] = tried.labels
    return suggest_n_groups(quality(runs.features[["obs_id", *runs.names]], scaled, labels))


def drop_incomplete(runs: Runs) -> Runs:
    """Leave out the features that some run does not have, and warn of it.

    Parameters
    ----------
    runs : `~obscluster.workflow.runs.Runs`
        The observations and their features.

    Raises
    ------
    RequestError
        If no feature is there for all runs.
    """
    features, names = runs.features, runs.names
    dropped = [name for name in names if not np.isfinite(numbers(features[name])).all()]
    if not dropped:
        return runs
    if len(dropped) == len(names):
        notes = "; ".join(dict.fromkeys(note for note in features["notes"] if note))
        raise RequestError(f"no feature is there for all runs: {notes}")
    kept = features.copy()
    kept.remove_columns(dropped)
    kept.meta["dropped"] = dropped
    table = runs.table.copy()
    table.remove_columns(dropped)
    text = f"left out, since some runs do not have them: {', '.join(dropped)}"
    warnings.warn(text, ObsClusterWarning, stacklevel=3)
    names = [name for name in names if name not in dropped]
    return replace(runs, features=kept, names=names, table=table)


def _check_any_complete(features: QTable, names: list[str]) -> None:
    """Raise if no run has all features, with the reasons."""
    X, _ = feature_matrix(features[names])
    if not np.isfinite(X).all(axis=1).any():
        # Each reason once, and first those of most runs.
        counts = count_notes(
            "; ".join(part for part in str(note).split("; ") if not part.startswith(LIVETIME))
            for note in features["notes"]
        )
        reasons = [f"{kind} ({n} runs)" for kind, n in counts.items()]
        raise RequestError(
            f"none of the {len(features)} runs has all of {', '.join(names)}: "
            f"{'; '.join(reasons[:3])}{' ...' if len(reasons) > 3 else ''}"
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
    with results_directory(output, "group", overwrite, result.data_store.base_dir) as staging:
        features = result.features.copy()
        if LIVETIME not in features.meta["names"]:
            # It is there for the sums.
            features.remove_column(LIVETIME)
        files = [FEATURES_FILE]
        result.features.write(staging / FEATURES_FILE, format="ascii.ecsv")
        files += write_run_lists(staging, result.grouping)
        files += write_obs_index(
            staging, result.data_store.obs_table, result.grouping, result.obs_table
        )
        if plots:
            # Matplotlib takes a second to load and is needed nowhere else.
            from obscluster.plots.overview import write_plots

            files += write_plots(staging, result.obs_table, features, result.grouping)
        features.remove_column("notes")
        files += result.grouping.files
        record = _record(result) | {"files": sorted(files)}
        write_grouping(staging, result.grouping, features, record)
    return sorted(files)


def recorded(config: RunConfig) -> dict[str, Any]:
    """What is written down of a description: what was asked, not how the work was shared out."""
    manner: dict[str, Any] = {"workers": True, "scheduler": True, "features": {"cache"}}
    if config.reduce is not None:
        manner["reduce"] = {"workers"}
    return config.model_dump(exclude=manner)


def _record(result: GroupResult) -> dict[str, Any]:
    """What a reader needs to see what was done, and to repeat it."""
    labels = result.grouping.labels
    hours = livetimes(result.obs_table, result.features)
    kinds = result.runs.kinds
    groups = {
        label: {
            "n_obs": len(obs_ids),
            "livetime": f"{np.nansum(hours[labels == label]):.4f} h",
            "kind": joined(kinds[i] for i in obs_ids).parts,
        }
        for label, obs_ids in enumerate(result.grouping.members.values(), start=1)
    }
    unread = dict(sorted(result.unread.items()))
    checksums, meta = result.data_store.index_checksums, result.features.meta
    return {
        "obscluster": "grouping of observations",
        "versions": versions(),
        "config": recorded(result.config),
        "archive": str(result.data_store.base_dir.absolute()),
        "index_files": {path.name: value for path, value in checksums.items()},
        "selection": result.runs.selections,
        "cut_flow": [
            dict(zip(result.cut_flow.colnames, row, strict=True))
            for row in result.cut_flow.iterrows()
        ],
        **({"unread": unread} if unread else {}),
        "features": {k: v for k, v in meta.items() if k not in ("unread", "kinds")},
        "label_files": {name: checksum(Path(name)) for name in result.config.grouping.files},
        "feature_files": {name: checksum(Path(name)) for name in result.config.features.files},
        "clustered": result.runs.names,
        "n_obs": len(result.grouping),
        "groups": groups,
    }
