"""Findings: one by one, as a table, and as text for a terminal."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from astropy.table import Table

from obscluster.exceptions import DataError, join_lines, printable

__all__ = [
    "ARCHIVE",
    "SEVERITIES",
    "Finding",
    "Row",
    "describe_findings",
    "error",
    "findings_table",
    "guarded",
    "info",
    "severity_counts",
    "some",
    "warning",
]

SEVERITIES = ("error", "warning", "info")

ARCHIVE = -1
"""In place of an OBS_ID: the archive as a whole, or a file that several runs share."""

# What is said of a file that is not there or damaged.
_DAMAGED = re.compile(
    r"no such file|fetch (it|the file) again|not a FITS file|is damaged|gzip data"
)
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?")


class Finding(NamedTuple):
    """What is wrong, and how badly."""

    severity: str
    text: str


class Row(NamedTuple):
    """A finding and what it concerns; the fields are the columns of the table."""

    obs_id: int
    hdu: str
    severity: str
    finding: str
    file: str


def error(text: str) -> Finding:
    """Something that stops or falsifies an analysis."""
    return Finding("error", text)


def warning(text: str) -> Finding:
    """Something against the specification, or implausible."""
    return Finding("warning", text)


def info(text: str) -> Finding:
    """Something worth knowing."""
    return Finding("info", text)


def guarded(checks: Iterable[Finding]) -> Iterator[Finding]:
    """Findings of a check; one that cannot go on ends with an error."""
    try:
        yield from checks
    except DataError as problem:
        yield error(problem.message)


def some(values: Iterable[Any], limit: int = 5) -> str:
    """The first few values, and how many more there are."""
    texts = [str(value) for value in values]
    more = f" and {len(texts) - limit} more" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + more


def findings_table(rows: Iterable[Row], meta: dict[str, Any]) -> Table:
    """Findings as a table, ordered by OBS_ID and severity, each once.

    Parameters
    ----------
    rows : iterable of `Row`
        The findings.
    meta : dict
        What was checked.

    Returns
    -------
    findings : `~astropy.table.Table`
        Columns obs_id, hdu, severity, finding and file.
    """
    # Texts of files may hold anything; a finding is one line of printable ASCII, as ECSV needs.
    clean = {row._replace(finding=_one_line(row.finding)) for row in rows}
    order = sorted(clean, key=lambda r: (r.obs_id, SEVERITIES.index(r.severity), r))
    table = Table(
        rows=[tuple(row) for row in order] or None,
        names=Row._fields,
        dtype=["i8", "U16", "U7", "U200", "U200"] if not order else None,
    )
    table.meta.update(meta)
    for name, text in (
        ("obs_id", f"Observation; {ARCHIVE} for the archive or a file that several share"),
        ("hdu", "HDU type, where one is concerned"),
        ("file", "File, relative to the archive"),
    ):
        table[name].description = text
    return table


def severity_counts(findings: Table) -> dict[str, int]:
    """Number of findings of each severity."""
    column = [str(value) for value in findings["severity"]]
    return {severity: column.count(severity) for severity in SEVERITIES}


def describe_findings(findings: Table, every: bool = False, width: int = 100) -> str:
    """Findings as text: a summary line, and a table.

    Parameters
    ----------
    findings : `~astropy.table.Table`
        From `~obscluster.check.check_archive`.
    every : bool
        List each finding with its run and file. Otherwise those of many runs that differ in
        nothing but their numbers are one line, with the text of the first.
    width : int
        Length of the lines.

    Returns
    -------
    text : str
        Several lines; the last one is the next step, where there is an error.
    """
    counts = severity_counts(findings)
    head = f"{_plural(findings.meta['n_runs'], 'run')}, {_plural(findings.meta['n_hdus'], 'HDU')}"
    numbers = [_plural(counts["error"], "error"), _plural(counts["warning"], "warning")]
    if counts["info"]:
        numbers.append(f"{counts['info']} info")
    lines = [f"{head} checked: {', '.join(numbers)}"]
    rows = [Row(*row) for row in findings.iterrows(*Row._fields)]
    if rows:
        lines += ["", *(_each(rows, width) if every else _folded(rows, width))]
        lines += ["", *step] if (step := _next_step(rows, findings.meta, width)) else []
    return join_lines(lines)


def _next_step(rows: list[Row], meta: Mapping[str, Any], width: int) -> list[str]:
    """What to do about the errors: about files that are damaged first, then about the index."""
    errors = [row for row in rows if row.severity == "error"]
    files = sorted({row.file for row in errors if _DAMAGED.search(row.finding)} - {""})
    if files:
        return _wrapped("", f"next: fetch again {some(files)}", width)
    # Rows that tell apart what one file holds are none that headers would give.
    at_fault = [row for row in errors if "they differ in" not in row.finding]
    if any(row.file in meta.get("index_files", ()) for row in at_fault):
        text = f"next: obscluster index {meta['archive']} writes index files from the headers"
        return _wrapped("", text, width)
    return []


def _folded(rows: list[Row], width: int) -> Iterator[str]:
    """One line for what many runs have in common, the worst first."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.severity, row.hdu, _NUMBER.sub("#", row.finding)), []).append(row)
    yield f"{'severity':8s}  {'HDU':8s}  {'runs':>6s}  finding"
    for (severity, hdu, _), group in sorted(
        groups.items(), key=lambda item: (SEVERITIES.index(item[0][0]), item[0][1])
    ):
        obs_ids = sorted({row.obs_id for row in group} - {ARCHIVE})
        files = sorted({row.file for row in group} - {""})
        start = f"{severity:8s}  {hdu:8s}  {len(obs_ids) or '':>6}  "
        text = group[0].finding
        if len({row.finding for row in group}) > 1:
            text += f" (so for the first; {len(group)} such findings)"
        yield from _wrapped(start, text, width)
        where = f"runs {some(obs_ids)}" if len(obs_ids) > 1 else some(files, 2)
        if len(obs_ids) == 1:
            where = f"run {obs_ids[0]}" + (f", {where}" if where else "")
        if where:
            yield from _wrapped(" " * len(start), where, width)


def _each(rows: list[Row], width: int) -> Iterator[str]:
    """Every finding with its run and file."""
    digits = max(len("OBS_ID"), *(len(str(row.obs_id)) for row in rows))
    yield f"{'OBS_ID':>{digits}s}  {'severity':8s}  {'HDU':8s}  finding"
    for row in rows:
        obs_id = "-" if row.obs_id == ARCHIVE else str(row.obs_id)
        start = f"{obs_id:>{digits}s}  {row.severity:8s}  {row.hdu:8s}  "
        yield from _wrapped(start, row.finding, width)
        if row.file:
            yield from _wrapped(" " * len(start), row.file, width)


def _wrapped(start: str, text: str, width: int) -> list[str]:
    # What goes on in the next line is set in, so that no text begins one.
    return textwrap.wrap(
        printable(text),
        width=max(width, len(start) + 20),
        initial_indent=start,
        subsequent_indent=" " * (len(start) or 2),
        break_on_hyphens=False,
        drop_whitespace=True,
    )


def _one_line(text: str) -> str:
    text = printable(" ".join(text.split()))
    return text.encode("ascii", "backslashreplace").decode()


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
