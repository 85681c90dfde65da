"""Results as HTML, for a notebook; the page of `obscluster.report.html` tells more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from astropy.table import QTable, Table
from numpy.typing import NDArray

from obscluster.archive.obs_table import livetime_text
from obscluster.grouping import UNASSIGNED
from obscluster.grouping.base import Grouping
from obscluster.values.markup import html_folded, html_list, html_table, html_text, html_view
from obscluster.views.rows import group_rows, loss_rows, outlier_texts, quality_rows, worst_rows

if TYPE_CHECKING:
    from obscluster.assessment import Stability, Suggestion

__all__ = ["assessment_html", "grouping_html", "result_html"]


def grouping_html(grouping: Grouping) -> str:
    """One sentence, a table of the groups, remarks, and the runs in no group.

    Parameters
    ----------
    grouping : `~obscluster.grouping.base.Grouping`
        The groups.
    """
    rest = grouping.obs_ids[grouping.labels < 0]
    groups = "1 group" if grouping.n_groups == 1 else f"{grouping.n_groups} groups"
    sentence = f"{len(grouping)} observations in {groups}"
    rows = [["group", *(["name"] if grouping.names else []), "runs", "OBS_ID"]]
    for name, obs_ids in grouping.groups.items():
        if name == "unassigned":
            continue
        label = int(name.removeprefix("group_"))
        title = [grouping.names.get(label, "")] if grouping.names else []
        # Numbers of runs, only the first if there are many.
        texts = [str(obs_id) for obs_id in obs_ids[:8].tolist()]
        rows.append(
            [
                name,
                *title,
                str(len(obs_ids)),
                ", ".join(texts + (["..."] if len(obs_ids) > 8 else [])),
            ]
        )
    reasons = [f"{i}: {grouping.reasons.get(i) or 'no reason is known'}" for i in rest.tolist()]
    return html_view(
        html_text(sentence + (f"; {len(rest)} in no group" if len(rest) else ""), strong=True),
        html_table(rows),
        html_list(grouping.remarks),
        html_folded(f"in no group: {len(rest)}", html_list(reasons, most=50)),
    )


class _Assessment(Protocol):
    """What is shown of `obscluster.workflow.assess.Assessment`, which stands above this module."""

    @property
    def grouping(self) -> Grouping: ...
    @property
    def worst(self) -> Table: ...
    @property
    def quality(self) -> QTable: ...
    @property
    def suggestion(self) -> Suggestion | None: ...
    @property
    def outliers(self) -> Table: ...
    @property
    def stability(self) -> Stability | None: ...
    @property
    def losses(self) -> QTable | None: ...


def result_html(
    grouping: Grouping, features: QTable, hours: NDArray[np.float64], cut_flow: Table
) -> str:
    """One sentence, the groups with their features, and the cut-flow.

    Parameters
    ----------
    grouping : `~obscluster.grouping.base.Grouping`
        The groups.
    features : `~astropy.table.QTable`
        Feature table, with the same runs.
    hours : `~numpy.ndarray`
        Their live times.
    cut_flow : `~astropy.table.Table`
        How they were selected.
    """
    n_rest = int((grouping.labels == UNASSIGNED).sum())
    groups = "1 group" if grouping.n_groups == 1 else f"{grouping.n_groups} groups"
    sentence = f"{len(grouping)} observations, {livetime_text(hours)}, in {groups}"
    unknown = "unknown" in cut_flow.colnames and any(cut_flow["unknown"])
    flow = [["selection", "passed", *(["outside", "unknown"] if unknown else ["dropped"])]]
    flow += [[str(row[name]) for name in flow[0]] for row in cut_flow]
    reasons = [f"{obs_id}: {reason}" for obs_id, reason in grouping.reasons.items()]
    return html_view(
        html_text(sentence + (f"; {n_rest} in no group" if n_rest else ""), strong=True),
        html_table(group_rows(grouping, features, hours, grouping.n_groups)),
        html_list(grouping.remarks),
        html_folded(f"in no group: {n_rest}", html_list(reasons, most=50)),
        html_folded("how the observations were selected", html_table(flow)),
    )


def assessment_html(assessment: _Assessment) -> str:
    """The tables and sentences that `obscluster assess` prints.

    Parameters
    ----------
    assessment : `~obscluster.workflow.assess.Assessment`
        What is shown.
    """
    suggestion, stability = assessment.suggestion, assessment.stability
    losses = ""
    if assessment.losses is not None:
        losses = html_table(loss_rows(assessment.losses), "information that stacking loses")
    groups = html_text(str(assessment.grouping).splitlines()[0], strong=True)
    if not assessment.worst.colnames:
        text = "the groups are categories: no features to compare"
        return html_view(groups, losses, html_text(text))
    odd = outlier_texts(assessment.outliers)
    return html_view(
        groups,
        html_table(worst_rows(assessment.worst), "largest spread within a group"),
        losses,
        html_table(quality_rows(assessment.quality), "quality of the groups"),
        "" if suggestion is None else html_text(f"suggested: {suggestion}"),
        html_text(odd[0]),
        html_list(odd[1:], most=20),
        "" if stability is None else html_text(str(stability)),
    )
