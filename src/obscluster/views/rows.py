"""Tables for people: texts of the cells, head first, for a terminal or a notebook."""

from __future__ import annotations

import numpy as np
from astropy import units as u
from astropy.table import QTable, Table
from numpy.typing import NDArray

from obscluster.archive.obs_table import livetime_text
from obscluster.features.scaling import period_of
from obscluster.grouping.base import Grouping
from obscluster.grouping.method import TIME
from obscluster.values.columns import range_of

__all__ = ["group_rows", "loss_rows", "outlier_texts", "quality_rows", "worst_rows"]

Rows = list[list[str]]


def group_rows(
    grouping: Grouping, features: QTable, hours: NDArray[np.float64], most: int = 40
) -> Rows:
    """Runs and hours of each group, and the range of every feature.

    Parameters
    ----------
    grouping : `~obscluster.grouping.base.Grouping`
        The groups.
    features : `~astropy.table.QTable`
        Feature table, with the same runs.
    hours : `~numpy.ndarray`
        Their live times.
    most : int
        More groups are left out.
    """
    names = [name for name in features.colnames if name in (features.meta.get("names") or ())]
    columns = {name: u.Quantity(features[name]) for name in names}
    units = {name: column.unit.to_string("fits") for name, column in columns.items()}
    rows = [
        ["group", *(["name"] if grouping.names else []), "runs", "livetime"]
        + [f"{name} [{unit}]" if unit else name for name, unit in units.items()]
    ]
    for label in range(1, min(grouping.n_groups, most) + 1):
        inside = grouping.labels == label
        row = [f"group_{label}", str(inside.sum()), livetime_text(hours[inside])]
        if grouping.names:
            row.insert(1, grouping.names.get(label, ""))
        for name, column in columns.items():
            # A range of angles may go through north: -10 to 20 deg.
            lo, hi = range_of(column.value[inside], period_of(name, features[name]))
            # Days need more digits than anything else.
            row.append(f"{lo:.1f} to {hi:.1f}" if name == TIME else f"{lo:.4g} to {hi:.4g}")
        rows.append(row)
    return rows


def worst_rows(worst: Table) -> Rows:
    """Largest spread of each feature, see `obscluster.assessment.worst_spreads`."""
    rows = [["feature", "spread", "per cent", "in", "farthest run"]]
    for row in worst:
        percent = f"{row['percent']:.1f} %" if np.isfinite(row["percent"]) else "-"
        spread = f"{row['spread']:.4g} {row['unit']}".rstrip()
        away = f"{row['worst_run']} ({row['deviation']:+.3g} from the mean)"
        rows.append([row["feature"], spread, percent, f"group_{row['label']}", away])
    return rows


def quality_rows(quality: Table) -> Rows:
    """Quality by number of groups, see `obscluster.assessment.quality`."""
    rows = [["groups", "silhouette", "of even runs", "Calinski-Harabasz", "Davies-Bouldin"]]
    rows[0] += ["smallest group"]
    for row in quality:
        values = [row["silhouette"], row["silhouette_even"], row["calinski_harabasz"]]
        texts = [f"{value:.3g}" if np.isfinite(value) else "-" for value in values]
        last = row["davies_bouldin"]
        texts.append(f"{last:.3g}" if np.isfinite(last) else "-")
        rows.append([str(row["n_groups"]), *texts, _runs(row["smallest"])])
    return rows


def loss_rows(losses: QTable) -> Rows:
    """Lost information, see `obscluster.workflow.frontier.loss_table`."""
    names = [name.removesuffix(" inflation") for name in losses.colnames if "inflation" in name]
    rows = [["", "groups", "loss", "observing time", *(f"{name} error" for name in names)]]
    for row in losses:
        errors = [f"+{float(row[f'{name} inflation']):.2%}" for name in names]
        time = f"{row['lost_time'].to_value(u.h):.2f} h"
        rows.append(
            [row["grouping"], str(row["n_groups"]), f"{float(row['loss']):.2%}", time, *errors]
        )
    return rows


def outlier_texts(odd: Table) -> list[str]:
    """How many runs are far from every group, and then each of them in words."""
    n_odd = "1 run is" if len(odd) == 1 else f"{len(odd) or 'no'} runs are"
    return [f"{n_odd} far from every group"] + [
        f"run {row['obs_id']}: {row['feature']} is {row['deviation']:+.1f} scatters from "
        f"group_{row['nearest']}, the nearest"
        for row in odd
    ]


def _runs(n_runs: int) -> str:
    return "1 run" if n_runs == 1 else f"{n_runs} runs"
