"""What a grouping that was written is worth: spreads, quality, outliers, stability, information.

Works on the files of the grouping alone, but for the information, which needs the archive.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import QTable, Table
from numpy.typing import NDArray

from obscluster.archive.kinds import Kind
from obscluster.assessment import (
    Stability,
    Suggestion,
    outliers,
    quality,
    spreads,
    stability,
    suggest_n_groups,
    worst_spreads,
)
from obscluster.config import (
    ConstraintsConfig,
    FeaturesConfig,
    RunConfig,
    SourceConfig,
    make_config,
    relocated,
)
from obscluster.exceptions import ArchiveError, ObsClusterWarning, RequestError
from obscluster.features.scaling import feature_matrix
from obscluster.files.output import results_directory
from obscluster.gadf.remote import is_url
from obscluster.grouping.base import RECORD_FILE, Grouping
from obscluster.grouping.method import Request, scaled_features
from obscluster.grouping.results import read_grouping
from obscluster.information.loss import compared_groupings, loss_table
from obscluster.information.scores import Scores
from obscluster.information.source import make_source
from obscluster.parallel.engine import Progress
from obscluster.plots.overview import write_quality_plot
from obscluster.views.notebook import assessment_html
from obscluster.workflow.group import group_runs
from obscluster.workflow.runs import characterise, scores_of

__all__ = ["Assessment", "assess_grouping", "scores_of_grouping", "write_assessment"]


@dataclass(frozen=True, eq=False)
class Assessment:
    """Figures of a grouping.

    Parameters
    ----------
    grouping : `~obscluster.grouping.base.Grouping`
        The groups.
    spreads, worst : `~astropy.table.Table`
        Empty, as all other tables on features, for groups that are categories.
        See `obscluster.assessment.spreads` and `~obscluster.assessment.worst_spreads`.
    quality : `~astropy.table.QTable`
        See `obscluster.assessment.quality`; for methods without a number of groups, one row.
    suggestion : `~obscluster.assessment.Suggestion` or None
        None for methods without a number of groups.
    outliers : `~astropy.table.Table`
        See `obscluster.assessment.outliers`.
    stability : `~obscluster.assessment.Stability` or None
        None if it was not asked for, or cannot be had.
    losses : `~astropy.table.QTable` or None
        Information that these groups lose, and that stacking everything does, see
        `obscluster.workflow.frontier.loss_table`; None if no source was named.
    labels : mapping
        Number of groups to the labels that the quality was taken of.
    archive : `~pathlib.Path` or None
        Where the runs are, as the grouping has it.
    unread : mapping
        Runs whose lost information is not told because a file could not be read, and why.
    """

    grouping: Grouping
    spreads: Table
    worst: Table
    quality: QTable
    suggestion: Suggestion | None
    outliers: Table
    stability: Stability | None
    losses: QTable | None = None
    labels: Mapping[int, NDArray[np.int64]] = field(default_factory=dict)
    archive: Path | None = None
    unread: Mapping[int, str] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        """For a notebook: the tables and sentences that `obscluster assess` prints."""
        return assessment_html(self)


def assess_grouping(
    groups: str | os.PathLike[str],
    max_groups: int = 10,
    n_resamples: int = 50,
    progress: Progress | None = None,
    information: Mapping[str, Any] | None = None,
    with_losses: bool = True,
    trust: bool = False,
) -> Assessment:
    """Assess a grouping that was written.

    Numbers of groups and stability are those of the method without its constraints.

    Parameters
    ----------
    groups : str or path
        ``groups.yaml``, or the directory that has it.
    max_groups : int
        Up to how many groups to look at.
    n_resamples : int
        Trials for the stability; none for 0.
    progress : callable, optional
        ``progress(iterable, total, what)`` wraps long loops.
    information : mapping, optional
        Parts ``source``, ``counts``, ``target`` and ``archive`` of the description, in place of
        those of the grouping: what is measured. The lost information is told if the grouping or
        this names a source.
    with_losses : bool
        Tell the lost information at all, which needs the archive.
    trust : bool
        Read files also if they changed since they were written.

    Raises
    ------
    ArchiveError
        If the files are not those of a grouping.
    RequestError
        If a number is not usable, or the lost information has no target.
    """
    if max_groups < 1 or n_resamples < 0:
        raise RequestError(
            f"max_groups {max_groups}, n_resamples {n_resamples}; expected at least 1 and 0"
        )
    grouping, record, table, directory = read_grouping(groups, trust)
    archive = _path_of(record.get("archive"))
    if not isinstance(record.get("clustered"), list):
        raise ArchiveError(f"{directory / RECORD_FILE}: has no key clustered")
    config = make_config(record["config"])
    losses: QTable | None = None
    unread: Mapping[int, str] = {}
    if with_losses:
        losses, unread = _losses(record, information or {}, grouping, progress)
    names = [name for name in record["clustered"] if name in table.colnames]
    if not names:
        # Categories: there is nothing by which the runs of a group could be compared.
        empty = QTable()
        return Assessment(
            grouping, empty, empty, empty, None, empty, None, losses, {}, archive, unread
        )
    features = table[["obs_id", *names]]
    scaled = scaled_features(features, names, config.scaling)
    n_complete = int(np.isfinite(feature_matrix(scaled)[0]).all(axis=1).sum())
    labels: dict[int, NDArray[np.int64]] = {grouping.n_groups: grouping.labels}
    numbered = config.grouping.numbered
    if numbered:
        numbers = range(1, min(max_groups, n_complete) + 1)
        for n in numbers if progress is None else progress(numbers, len(numbers), "groups"):
            if n != grouping.n_groups:
                labels[n] = _group(config, features, names, n).labels
    table = quality(features, scaled, labels)
    return Assessment(
        grouping,
        spreads(features, grouping),
        worst_spreads(features, grouping),
        table,
        suggest_n_groups(table) if numbered else None,
        outliers(scaled, grouping),
        _stability(config, features, names, grouping, n_resamples),
        losses,
        labels,
        archive,
        unread,
    )


def _path_of(archive: Any) -> Path | None:
    return Path(archive) if isinstance(archive, str) and not is_url(archive) else None


def write_assessment(assessment: Assessment, output: Path, overwrite: bool = False) -> list[str]:
    """Write tables and the plot of the quality.

    Parameters
    ----------
    assessment : `Assessment`
        What to write.
    output : `~pathlib.Path`
        Directory, which appears whole or not at all.
    overwrite : bool
        Replace earlier results in it.

    Returns
    -------
    files : list of str
        Names of the files in the output.
    """
    tables = {
        "spreads.ecsv": assessment.spreads,
        "quality.ecsv": assessment.quality,
        "outliers.ecsv": assessment.outliers,
    }
    if assessment.stability is not None:
        tables["stability.ecsv"] = assessment.stability.table
        tables["stability_runs.ecsv"] = assessment.stability.runs
    if assessment.losses is not None:
        tables["losses.ecsv"] = assessment.losses
    tables = {name: table for name, table in tables.items() if table.colnames}
    with results_directory(output, "assess", overwrite, assessment.archive) as staging:
        for name, table in tables.items():
            table.write(staging / name, format="ascii.ecsv")
        files = list(tables)
        if len(assessment.quality) > 1:
            files.append(write_quality_plot(staging, assessment.quality, assessment.suggestion))
    return sorted(files)


def scores_of_grouping(
    record: Mapping[str, Any],
    information: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> tuple[Scores, bool, dict[int, Kind]] | None:
    """Expected counts of the runs of a grouping that was written.

    Parameters
    ----------
    record : mapping
        Content of its groups.yaml, see `obscluster.grouping.results.read_grouping`.
    information : mapping, optional
        See `assess_grouping`.
    progress : callable, optional
        ``progress(iterable, total, what)`` wraps long loops.

    Returns
    -------
    scores : `~obscluster.information.Scores`
        Expected counts.
    fit_background : bool
        Whether the background of each group is fitted.
    kinds : dict
        Kinds of the runs, see `obscluster.archive.kinds`.
    None
        In place of all, if nobody says what source is measured.

    Raises
    ------
    RequestError
        If there is no target, or the archive cannot be read.
    """
    asked, given = record["config"], dict(information or {})
    archive = relocated(asked.get("archive"), record.get("archive"))
    given["archive"] = relocated(archive, given.get("archive"))
    config = make_config({**asked, **given})
    if config.source is None and not config.grouping.needs_scores:
        return None
    if config.target is None:
        raise RequestError("the lost information needs a target (--target), where the source is")
    # Features are not needed again.
    config = config.model_copy(update={"features": FeaturesConfig(names=("livetime",))})
    runs = characterise(config)
    return scores_of(config, runs, progress), config.counts.fit_background, runs.kinds


def _losses(
    record: Mapping[str, Any],
    information: Mapping[str, Any],
    grouping: Grouping,
    progress: Progress | None,
) -> tuple[QTable | None, Mapping[int, str]]:
    """Information that the groups lose, None if nobody says on what; and runs not read for it."""
    found = scores_of_grouping(record, information, progress)
    if found is None:
        return None, {}
    scores, fit_background, kinds = found
    labels = grouping.label_of(scores.obs_ids)
    groupings = compared_groupings(kinds, scores.obs_ids, labels)
    table = loss_table(scores, groupings, fit_background)
    source = information.get("source", record["config"].get("source"))
    table.meta["prediction"] = prediction_of(source or {}, scores)
    return table, scores.unread


def prediction_of(source: Mapping[str, Any], scores: Scores) -> dict[str, Any]:
    """What losses were predicted for, in plain numbers: fits look there if it is theirs.

    Parameters
    ----------
    source : mapping
        What was asked, see `~obscluster.information.make_source`.
    scores : `~obscluster.information.Scores`
        Expected counts of it.
    """
    spectrum = make_source(**{k: v for k, v in source.items() if v is not None}).spectrum
    binning = scores.binning
    edges = [] if binning is None else [float(binning.energies[i]) for i in (0, -1)]
    return {
        "model": source.get("model", "power-law"),
        "index": float(source.get("index", SourceConfig().index)),
        "flux_at_1_TeV": float(spectrum.flux(np.array([1.0]))[0]),
        "energy": edges,
        "kind": "3d" if binning is not None and binning.n_rings > 1 else "1d",
    }


def _group(config: RunConfig, features: QTable, names: list[str], n_groups: int) -> Grouping:
    """Groups of the method, of a number, without constraints."""
    method = config.grouping.model_copy(update={"n_groups": n_groups})
    with warnings.catch_warnings():
        # What a number that nobody asked for warns of does not matter.
        warnings.simplefilter("ignore", ObsClusterWarning)
        return group_runs(features, names, method, config.scaling)


def _stability(
    config: RunConfig, features: QTable, names: list[str], grouping: Grouping, n_resamples: int
) -> Stability | None:
    """Stability of the method; None for cuts, whose groups do not depend on the other runs."""
    method = config.grouping
    if n_resamples == 0 or not method.resampled or config.constraints.max_spread:
        return None
    scaled = scaled_features(features, names, config.scaling)
    columns = [name for name in scaled.colnames if name != "obs_id"]
    plain = config.scaling.model_copy(
        update={"method": "none", "tolerances": {}, "weights": {}, "log": ()}
    )

    def group(table: QTable) -> Grouping:
        request = Request(table, tuple(columns), plain, ConstraintsConfig())
        number = grouping.n_groups if hasattr(method, "n_groups") else None
        return method.prepare(request).group(table, number)

    try:
        return stability(scaled, group, n_resamples)
    except RequestError as error:
        warnings.warn(f"no stability: {error}", ObsClusterWarning, stacklevel=3)
        return None
