"""A grouping as HTML, for a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from obscluster.notebook import html_folded, html_list, html_table, html_text, html_view

if TYPE_CHECKING:
    from obscluster.grouping.base import Grouping

__all__ = ["grouping_html"]


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
        rows.append([name, *title, str(len(obs_ids)), _listed(obs_ids)])
    reasons = [f"{i}: {grouping.reasons.get(i) or 'no reason is known'}" for i in rest.tolist()]
    return html_view(
        html_text(sentence + (f"; {len(rest)} in no group" if len(rest) else ""), strong=True),
        html_table(rows),
        html_list(grouping.remarks),
        html_folded(f"in no group: {len(rest)}", html_list(reasons, most=50)),
    )


def _listed(obs_ids: NDArray[np.int64], most: int = 8) -> str:
    """Numbers of runs, only the first if there are many."""
    texts = [str(obs_id) for obs_id in obs_ids[:most].tolist()]
    return ", ".join(texts + (["..."] if len(obs_ids) > most else []))
