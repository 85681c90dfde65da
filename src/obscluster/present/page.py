"""From results to a report on one page."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from obscluster.assess import Assessment
from obscluster.engine import Progress
from obscluster.exceptions import RequestError
from obscluster.files.checksums import UNSEALED
from obscluster.files.output import check_file, write_file
from obscluster.present.collect import collect
from obscluster.results import read_grouping

__all__ = ["REPORT_FILE", "require_report", "write_report"]

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
    assessment : `~obscluster.assess.Assessment`, optional
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
