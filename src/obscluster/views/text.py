"""A result in a few lines of text."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from astropy import units as u
from astropy.table import QTable, Table

from obscluster.archive.obs_table import livetime_text, livetimes
from obscluster.exceptions import join_lines, printable
from obscluster.features.table import count_notes, kinds_of
from obscluster.grouping import UNASSIGNED
from obscluster.views.rows import group_rows, loss_rows, outlier_texts, quality_rows, worst_rows

__all__ = [
    "describe_assessment",
    "describe_assignment",
    "describe_frontier",
    "describe_result",
    "describe_unassigned",
    "describe_unread",
    "note_lines",
]

_MAX_GROUPS = 40
_MAX_RUNS = 20
_MAX_REMARKS = 10
_FEW = 5


def describe_unread(
    unread: Mapping[int, str], obs_ids: Iterable[int], without: Iterable[int], what: str = "groups"
) -> list[str]:
    """What a result lost to files that could not be read: the first line of every result.

    Parameters
    ----------
    unread : mapping
        Runs of which a file could not be read, to the reason, such as `GroupResult.unread`.
    obs_ids : iterable of int
        Runs that were asked for.
    without : iterable of int
        Those that have no place in the result.
    what : str
        What the result is.

    Returns
    -------
    lines : list of str
        One line, none if all was read.

    Examples
    --------
    >>> why = "cannot be read (Permission denied) (data/run_7.fits)"
    >>> describe_unread({7: why}, [6, 7, 8], without=[7])
    ['1 of 3 runs could not be read: 7 (permission denied); groups are without it']
    """
    if not unread:
        return []
    by_kind: dict[str, list[int]] = {}
    for obs_id, reason in sorted(unread.items()):
        by_kind.setdefault(_kind_of_error(reason), []).append(obs_id)
    parts = []
    for kind, some in by_kind.items():
        more = f" and {len(some) - _FEW} more" if len(some) > _FEW else ""
        parts.append(f"{', '.join(map(str, some[:_FEW]))}{more} ({kind})")
    n_asked, n_without = len({*obs_ids, *unread}), len({*without} & {*unread})
    them = "them" if len(unread) > 1 else "it"
    if n_without == len(unread):
        end = f"{what} are without {them}"
    elif n_without:
        end = f"{what} are without {n_without} of them"
    else:
        end = f"what else is known of {them} was taken"
    return [f"{len(unread)} of {n_asked} runs could not be read: {'; '.join(parts)}; {end}"]


def _kind_of_error(reason: str) -> str:
    """Reason of a read error in few words."""
    cause = re.match(r"cannot be (?:read|reached) \((.*?)\)", reason)
    if cause is None:
        return kinds_of(reason)[0]
    return cause[1][:1].lower() + cause[1][1:]


def describe_result(result: Any) -> str:
    """What could not be read, the cut-flow, one sentence, and a table of the groups.

    Parameters
    ----------
    result : `~obscluster.workflow.group.GroupResult`
        The result.

    Returns
    -------
    text : str
        Several lines, for a terminal.
    """
    grouping = result.grouping
    hours = livetimes(result.obs_table, result.features)
    n_rest = int((grouping.labels == UNASSIGNED).sum())
    groups = "1 group" if grouping.n_groups == 1 else f"{grouping.n_groups} groups"
    sentence = f"{len(grouping)} observations, {livetime_text(hours)}, in {groups}"
    lost = describe_unread(
        result.unread,
        result.grouping.obs_ids.tolist(),
        {*result.unread} - {*grouping.obs_ids[grouping.labels != UNASSIGNED].tolist()},
    )
    lines = [*lost, *_cut_flow_lines(result.cut_flow), "", sentence]
    if n_rest:
        lines[-1] += f"; {n_rest} in no group"
    lines += ["", *_fit(group_rows(grouping, result.features, hours, _MAX_GROUPS))]
    if grouping.n_groups > _MAX_GROUPS:
        lines.append(f"... and {grouping.n_groups - _MAX_GROUPS} more groups")
    lines += note_lines(result.features)
    remarks = result.grouping.remarks
    lines += [""] if remarks else []
    for remark in remarks[:_MAX_REMARKS]:
        lines += textwrap.wrap(printable(remark), 100, subsequent_indent="  ")
    if len(remarks) > _MAX_REMARKS:
        lines.append(f"... and {len(remarks) - _MAX_REMARKS} more remarks, see groups.yaml")
    return join_lines(lines)


def describe_unassigned(result: Any) -> list[str]:
    """Runs in no group and why, each reason once.

    Parameters
    ----------
    result : `~obscluster.workflow.group.GroupResult`
        The result.

    Returns
    -------
    lines : list of str
        One per reason, most runs first; of one run, with the details.
    """
    by_kind: dict[str, list[int]] = {}
    for obs_id, reason in result.unassigned.items():
        by_kind.setdefault("; ".join(dict.fromkeys(kinds_of(reason))), []).append(obs_id)
    lines = []
    for kind, obs_ids in sorted(by_kind.items(), key=lambda item: -len(item[1])):
        if len(obs_ids) == 1:
            lines.append(f"run {obs_ids[0]} is in no group: {result.unassigned[obs_ids[0]]}")
            continue
        more = f" and {len(obs_ids) - _FEW} more" if len(obs_ids) > _FEW else ""
        some = ", ".join(map(str, obs_ids[:_FEW]))
        lines.append(f"{len(obs_ids)} runs are in no group: {kind} (runs {some}{more})")
    more_reasons = len(lines) - _MAX_REMARKS
    if more_reasons > 0:
        text = f"... and {more_reasons} more reasons, see unassigned in groups.yaml"
        lines = [*lines[:_MAX_REMARKS], text]
    return lines


def _cut_flow_lines(cut_flow: Table) -> list[str]:
    """Cut-flow as a table; three numbers where of some runs one does not know."""
    unknown = cut_flow.meta.get("unknown", {})
    names = ["outside", "unknown"] if unknown else ["dropped"]
    lines: list[str] = cut_flow["selection", "passed", *names].pformat(max_width=-1)
    for step, obs_ids in unknown.items():
        some = ", ".join(map(str, obs_ids[:_MAX_RUNS]))
        more = f" and {len(obs_ids) - _MAX_RUNS} more" if len(obs_ids) > _MAX_RUNS else ""
        text = printable(f"unknown for {step}: {some}{more}")
        lines += textwrap.wrap(text, 100, subsequent_indent="  ")
    return lines


def note_lines(features: QTable) -> list[str]:
    """What is doubtful of the features: one line per reason, with the number of runs.

    Parameters
    ----------
    features : `~astropy.table.QTable`
        Feature table with a column ``notes``.
    """
    counts = count_notes(features["notes"].tolist() if "notes" in features.colnames else [])
    rows = [f"{n} run{'s' if n > 1 else ''}: {kind}" for kind, n in counts.items()]
    more = len(rows) - _MAX_REMARKS
    if more > 0:
        rows = [*rows[:_MAX_REMARKS], f"... and {more} more reasons, see notes in features.ecsv"]
    return ["", *rows] if rows else []


def describe_assignment(assignment: Any) -> str:
    """One sentence, a table of the groups, and the runs that fit none.

    Parameters
    ----------
    assignment : `~obscluster.workflow.assign.Assignment`
        The assignment.

    Returns
    -------
    text : str
        Several lines, for a terminal.
    """
    table, grouping = assignment.table, assignment.grouping
    n_none = assignment.count("fits none")
    placed = table["obs_id"][table["label"] != UNASSIGNED].tolist()
    unread = assignment.unread
    lines = describe_unread(unread, table["obs_id"].tolist(), {*unread} - {*placed})
    lines.append(
        f"{len(table)} observations: {assignment.count('known')} known, "
        f"{assignment.count('new')} new in their groups, {n_none} fit none"
    )
    if assignment.changed_index:
        lines.append(f"changed since the groups were made: {', '.join(assignment.changed_index)}")
    lines.append("")
    rows = [["group", *(["name"] if grouping.names else []), "runs", "new"]]
    for label in range(1, min(grouping.n_groups, _MAX_GROUPS) + 1):
        n_new = int(((table["label"] == label) & (table["status"] == "new")).sum())
        row = [f"group_{label}", str((grouping.labels == label).sum()), str(n_new)]
        if grouping.names:
            row.insert(1, grouping.names.get(label, ""))
        rows.append(row)
    lines += _lines(rows)
    outside = table[table["status"] == "fits none"]
    lines += [""] if len(outside) else []
    lines += [f"run {row['obs_id']} fits none: {row['notes']}" for row in outside[:_MAX_RUNS]]
    if len(outside) > _MAX_RUNS:
        lines.append(f"... and {len(outside) - _MAX_RUNS} more")
    return join_lines(lines)


def describe_assessment(assessment: Any) -> str:
    """Spreads, quality by number of groups, outliers and stability.

    Parameters
    ----------
    assessment : `~obscluster.workflow.assess.Assessment`
        The assessment.

    Returns
    -------
    text : str
        Several lines, for a terminal.
    """
    losses = [] if assessment.losses is None else _lines(loss_rows(assessment.losses))
    if losses:
        losses = ["information that stacking loses", "", *losses]
    if not assessment.worst.colnames:
        text = "the groups are categories: no features to compare"
        lines = [*str(assessment.grouping).splitlines(), "", text]
        return join_lines([*lines, *(["", *losses] if losses else [])])
    lines = ["largest spread within a group", ""]
    lines += _lines(worst_rows(assessment.worst))
    lines += ["", *losses] if losses else []
    lines += ["", "quality of the groups", "", *_lines(quality_rows(assessment.quality))]
    if "constraints" in assessment.grouping.parameters:
        text = f"other numbers than {assessment.grouping.n_groups} groups, and the stability, are "
        lines += ["", f"{text}those of the method without its constraints"]
    if assessment.suggestion is not None:
        text = printable(f"suggested: {assessment.suggestion}")
        lines += ["", *textwrap.wrap(text, 100, subsequent_indent="  ")]
    odd = outlier_texts(assessment.outliers)
    lines += ["", odd[0], *(f"  {text}" for text in odd[1 : _MAX_RUNS + 1])]
    if assessment.stability is not None:
        lines += ["", *str(assessment.stability).splitlines()]
    return join_lines(lines)


def describe_frontier(table: QTable) -> str:
    """Losses of every way to group, by number of groups.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        See `obscluster.workflow.frontier.frontier`.

    Returns
    -------
    text : str
        Several lines, for a terminal.
    """
    source, names = table.meta["source"], table.meta["parameters"]
    ways = list(dict.fromkeys(table["grouping"].tolist()))
    by_way = {
        way: {int(row["n_groups"]): row for row in table[table["grouping"] == way]} for way in ways
    }
    rows = [["groups", *(f"{way}" for way in ways), "lost time", *(f"{n} error" for n in names)]]
    for n_groups in sorted(by_way["information"]):
        best = by_way["information"][n_groups]
        cells = [by_way[way].get(n_groups) for way in ways]
        losses = ["" if cell is None else f"{float(cell['loss']):.2%}" for cell in cells]
        errors = [f"+{float(best[f'{name} inflation']):.2%}" for name in names]
        rows.append([str(n_groups), *losses, f"{best['lost_time'].to_value(u.h):.2f} h", *errors])
    lines = [
        (
            f"{table.meta['n_obs']} observations, {table.meta['livetime']}; source of "
            f"{source['amplitude']}, index {source['index']:g}; information on {', '.join(names)}"
        ),
        "",
        "information that is lost, by way to group; observing time and errors for the best",
        "",
        *_fit(rows),
    ]
    return join_lines(lines)


def _fit(rows: list[list[str]]) -> list[str]:
    """Lines of a table; one that is too wide for the terminal is turned on its side."""
    width = shutil.get_terminal_size(fallback=(120, 24)).columns
    lines = _lines(rows)
    if len(lines[0]) <= width:
        return lines
    turned = _lines([list(column) for column in zip(*rows, strict=True)])
    return turned if len(turned[0]) < len(lines[0]) else lines


def _lines(rows: list[list[str]]) -> list[str]:
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return [text[0], "  ".join("-" * width for width in widths), *text[1:]]
