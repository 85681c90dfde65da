"""A report of results: everything that is known of a grouping, on one page."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from astropy.table import QTable
from astropy.time import Time
from numpy.typing import NDArray

from obscluster.archive.description import open_archive
from obscluster.archive.obs_table import ObservationTable, livetimes, several_rows
from obscluster.archive.observation import Observation
from obscluster.archive.selection import names_of_runs, resolve_target
from obscluster.archive.store import DataStore
from obscluster.assessment import labels_of_tree
from obscluster.config import RunConfig, make_config, relocated
from obscluster.exceptions import ArchiveError, RequestError
from obscluster.features.curves import IrfCurves, irf_curves
from obscluster.files.ecsv import read_ecsv
from obscluster.files.output import check_file, write_file
from obscluster.files.records import UNSEALED, check_record, list_of, mapping, path_in, text
from obscluster.files.yaml import read_yaml, yaml_text
from obscluster.gadf.time import quiet_times
from obscluster.grouping import UNASSIGNED
from obscluster.grouping.base import RECORD_FILE, Grouping
from obscluster.grouping.results import read_grouping
from obscluster.information.loss import compared_groupings, loss_table
from obscluster.parallel.engine import Progress, get_engine
from obscluster.report.content import ReportContent
from obscluster.workflow.assess import Assessment, assess_grouping, scores_of_grouping

if TYPE_CHECKING:
    from obscluster.report.content import ReportContent

__all__ = [
    "REPORT_FILE",
    "attribution",
    "collect",
    "features_with_notes",
    "pointings",
    "require_report",
    "selected_rows",
    "start_times",
    "target_names_of",
    "write_report",
]

# SHA-256 of the obs-index of archives that ask for an acknowledgement.
_ARCHIVES = {
    "sha256:f44f788d37147439ff03bca3fd1144f8b1d3ecd7caae292ff7592ff7e6b1a8b9": (
        "HESS DL3 DR1, H.E.S.S. collaboration"
    ),
}


def selected_rows(directory: Path, grouping: Grouping) -> ObservationTable:
    """Rows of the obs-index that was written with the results, in the order of the grouping."""
    path = path_in(directory, "obs-index.fits.gz", directory / RECORD_FILE)
    table = ObservationTable.read(path)
    if several_rows(table) and "GROUP_ID" in table.colnames:
        # Of event types, the row that is in a group, or else the first.
        order = np.argsort(np.asarray(table["GROUP_ID"]) == UNASSIGNED, kind="stable")
        table = table[np.sort(order[np.unique(table["OBS_ID"][order], return_index=True)[1]])]
    try:
        return table.select_obs_id(grouping.obs_ids)
    except RequestError as error:
        raise ArchiveError(f"{path}: is not that of {RECORD_FILE} ({error})") from None


def features_with_notes(directory: Path, grouping: Grouping, features: QTable) -> QTable:
    """Features with the notes of why some are missing, which groups.ecsv leaves out."""
    path = directory / "features.ecsv"
    if not path.exists():
        return features
    table = read_ecsv(path_in(directory, path.name, directory / RECORD_FILE))
    same = "obs_id" in table.colnames and np.array_equal(table["obs_id"], grouping.obs_ids)
    return table if same else features


def start_times(obs_table: ObservationTable) -> NDArray[np.float64]:
    """When the runs began, as MJD (UTC); NaN where it is unknown."""
    mjd = np.array(obs_table.quantity("start").value.value)
    known = np.isfinite(mjd)
    with quiet_times():
        mjd[known] = Time(mjd[known], format="mjd", scale="tt").utc.mjd
    return mjd


def pointings(
    obs_table: ObservationTable,
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Right ascension and declination in degrees; None if they are unknown for all runs."""
    ra, dec = (np.array(obs_table.quantity(key).value.value) for key in ("RA_PNT", "DEC_PNT"))
    return (ra, dec) if (np.isfinite(ra) & np.isfinite(dec)).any() else None


def target_names_of(obs_table: ObservationTable) -> list[str]:
    """What each run looked at; empty if neither index nor headers say."""
    names = names_of_runs(obs_table)
    return names if any(names) else []


def attribution(record: Mapping[str, Any]) -> str:
    """Whom to acknowledge: of archives whose index has a checksum that is known."""
    files = record.get("index_files")
    checksums = files.values() if isinstance(files, Mapping) else ()
    return next((_ARCHIVES[value] for value in checksums if value in _ARCHIVES), "")


Archive = str | Mapping[str, str]

_MOST_GROUPS = 10


def collect(
    directory: Path,
    grouping: Grouping,
    record: dict[str, Any],
    features: QTable,
    archive: Archive | None,
    assessment: Assessment | None,
    progress: Progress | None,
    trust: bool = False,
) -> ReportContent:
    """All that the page tells."""
    if not isinstance(record.get("clustered"), list):
        raise ArchiveError(f"{directory / RECORD_FILE}: has no key clustered")
    obs_table = selected_rows(directory, grouping)
    config = make_config(record["config"])
    # As it is understood: what goes without saying is there, and short forms are written out.
    record = {**record, "config": config.model_dump(mode="json")}
    missing: dict[str, str] = {}
    store = _archive(archive, record, missing)
    if store is not None:
        # What the index does not say is asked from the files.
        obs_table.files = store.obs_table.files
    if assessment is None:
        assessment = assess_grouping(
            directory, _MOST_GROUPS, 0, progress, with_losses=False, trust=trust
        )
    # Labels for other numbers of groups: cuts of the tree, or else what the method gives.
    labels: Mapping[int, NDArray[np.int64]] = assessment.labels
    if grouping.linkage is not None and len(grouping.linkage):
        assigned = int((grouping.labels != UNASSIGNED).sum())
        if assigned == len(grouping.linkage) + 1:
            labels = labels_of_tree(grouping, max(_MOST_GROUPS, grouping.n_groups))
    partitions = {**labels, grouping.n_groups: grouping.labels} if grouping.n_groups else {}
    losses = assessment.losses
    by_number: dict[int, float] = {}
    if store is not None:
        place = {"archive": relocated(archive, str(store.base_dir))}
        losses, by_number = _losses(record, place, grouping, partitions, losses, missing, progress)
    curves = None
    if store is not None:
        curves = _curves(store, config, grouping, missing, progress)
    # What `obscluster run` takes to make the same groups, without what goes without saying.
    asked = config.model_dump(mode="json", exclude_defaults=True)
    asked["archive"] = relocated(asked["archive"], record.get("archive"))
    # First, as in a description that somebody writes.
    content = {"archive": asked["archive"], **asked}
    if not config.grouping.columns(config.constraints):
        # What everything rests on is said, also where it is the default.
        names = {
            "names": list(config.features.names or record["clustered"]),
            "energy": list(config.features.energy),
        }
        content["features"] = {**names, **content.get("features", {})}
    content["grouping"] = {"method": config.grouping.method, **content.get("grouping", {})}
    return ReportContent(
        grouping=grouping,
        record=record,
        yaml=yaml_text(content),
        obs_table=obs_table,
        feature_table=features_with_notes(directory, grouping, features),
        hours=livetimes(obs_table, features),
        mjd=start_times(obs_table),
        pointing=pointings(obs_table),
        targets=target_names_of(obs_table),
        spreads=assessment.spreads,
        quality=assessment.quality,
        outliers=assessment.outliers,
        suggestion=assessment.suggestion,
        partitions=partitions,
        losses=losses,
        losses_by_number=by_number,
        curves=curves,
        missing=missing,
        fit_verdict=_fit_verdict(directory, missing),
        attribution=attribution(record),
    )


def _fit_verdict(directory: Path, missing: dict[str, str]) -> tuple[str, ...]:
    """What the joint fit that lies with the groups says first."""
    path = directory / "fit" / "fit.yaml"
    if not path.exists():
        return ()
    try:
        record = read_yaml(path)
        check_record(record, mapping({}, {"verdict": list_of(text)}), path)
    except ArchiveError as error:
        missing["joint fit"] = str(error)
        return ()
    return tuple(line for line in record.get("verdict", ()) if line.strip())


def _archive(
    archive: Archive | None, record: Mapping[str, Any], missing: dict[str, str]
) -> DataStore | None:
    """The archive, if it is where it is said to be."""
    asked = relocated(record["config"].get("archive"), record.get("archive"))
    if not (archive or record.get("archive")):
        missing["archive"] = "the record does not say where the archive is"
        return None
    try:
        return open_archive(relocated(asked, archive))
    except RequestError as error:
        if archive is not None:
            raise
        missing["archive"] = f"the archive is not where it was ({error})"
        return None


def _losses(
    record: Mapping[str, Any],
    place: Mapping[str, Any],
    grouping: Grouping,
    partitions: Mapping[int, NDArray[np.int64]],
    known: QTable | None,
    missing: dict[str, str],
    progress: Progress | None,
) -> tuple[QTable | None, dict[int, float]]:
    """Lost information of these groups and of other numbers of groups."""
    try:
        found = scores_of_grouping(record, place, progress)
    except RequestError as error:
        missing["losses"] = str(error)
        return known, {}
    if found is None:
        missing["losses"] = "no source was named, whose measurement would lose information"
        return known, {}
    scores, fit_background, kinds = found
    rows = {int(obs_id): row for row, obs_id in enumerate(grouping.obs_ids.tolist())}
    order = [rows.get(int(obs_id), -1) for obs_id in scores.obs_ids]

    def of_scores(labels: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.append(labels, UNASSIGNED)[order]

    labels = of_scores(grouping.labels)
    table = loss_table(scores, compared_groupings(kinds, scores.obs_ids, labels), fit_background)
    others = {str(n): of_scores(values) for n, values in partitions.items()}
    by_number = loss_table(scores, others, fit_background) if len(others) > 1 else None
    losses = {} if by_number is None else dict(zip(others, by_number["loss"], strict=True))
    return table, {int(n): float(u.Quantity(loss).value) for n, loss in losses.items()}


def _curves(
    store: DataStore,
    config: RunConfig,
    grouping: Grouping,
    missing: dict[str, str],
    progress: Progress | None,
) -> IrfCurves | None:
    """Responses of the runs; None, and why, if there are none."""
    known = {obs.obs_id: obs for obs in store.get_observations(grouping.obs_ids, True)}
    ids = grouping.obs_ids.tolist()
    observations = [known.get(obs_id) or Observation(obs_id, {}) for obs_id in ids]
    try:
        position = None
        if config.target is not None and config.features.offset is None:
            target = resolve_target(store.obs_table, config.target, config.radius, config.frame)
            position = target.position
        return irf_curves(
            observations,
            grouping.labels,
            position,
            config.features.offset,
            engine=get_engine(config.workers, config.scheduler),
            progress=None
            if progress is None
            else lambda rows, total: progress(rows, total, "responses"),
        )
    except RequestError as error:
        missing["curves"] = str(error)
        return None


REPORT_FILE = "report.html"


def require_report() -> None:
    """Check that what draws reports is installed.

    Raises
    ------
    RequestError
        If it is not.
    """
    try:
        import obscluster.report.html  # noqa: F401
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("bokeh", "jinja2"):
            raise
        raise RequestError(
            f"a report needs {error.name}, which is not installed; install the extra: "
            'pip install "obscluster[report]"'
        ) from None


def write_report(
    results: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    archive: str | Mapping[str, str] | None = None,
    assessment: Assessment | None = None,
    progress: Progress | None = None,
    trust: bool = False,
    force: bool = False,
) -> Path:
    """Write a page that shows a grouping to someone who was not there.

    It holds all that it needs: no network, and no other file. The same results give the same
    bytes.

    Parameters
    ----------
    results : str or path
        Directory with the results of a grouping, or its groups.yaml.
    output : str or path, optional
        The file; ``report.html`` with the results unless told.
    archive : str or mapping, optional
        Where the runs are now (a mapping: ``path``, ``obs_index``, ``hdu_index``); where they were
        by default. Without it, responses against energy
        and lost information are left out, and the page says so.
    assessment : `~obscluster.workflow.assess.Assessment`, optional
        What the grouping is worth; found out unless given.
    progress : callable, optional
        ``progress(iterable, total, what)`` wraps long loops.
    trust : bool
        Read results also if their files changed since they were written.
    force : bool
        Replace any file. Otherwise only a page is replaced that is as it was written.

    Returns
    -------
    path : `~pathlib.Path`
        The file.

    Raises
    ------
    ArchiveError
        If the files are not those of a grouping.
    RequestError
        If the archive that is named cannot be read, the file cannot be written, or the extra
        ``report`` is not installed.
    """
    require_report()
    from obscluster.report.html import render

    grouping, record, features, directory = read_grouping(results, trust)
    path = directory / REPORT_FILE if output is None else Path(output)
    place = Path(str(record.get("archive") or path / "no archive"))
    # Before the work, not after it.
    check_file(path, True, force, place)
    content = collect(directory, grouping, record, features, archive, assessment, progress, trust)
    page = f"{render(content)}<!-- {UNSEALED} -->\n"
    write_file(path, page, True, force, place)
    return path
