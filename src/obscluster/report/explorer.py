"""What the explorer knows: the runs, the groups of each number, and the tree."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from obscluster.grouping.base import UNASSIGNED
from obscluster.report.bokeh_document import make_document, stable_json
from obscluster.report.content import ReportContent
from obscluster.report.dendrogram import leaf_positions
from obscluster.report.quantities import Quantity
from obscluster.report.sky import sky_map

__all__ = ["explorer_data"]

# Of larger trees, only the upper branches are drawn; the others would be finer than a pixel.
_MOST_BRANCHES = 1500
_UNIX_EPOCH_MJD = 40587.0


def explorer_data(content: ReportContent) -> dict[str, Any]:
    """Everything that the script of the explorer needs, in plain values.

    Parameters
    ----------
    content : `~obscluster.report.content.ReportContent`
        The grouping and what is known of it.

    Returns
    -------
    data : dict
        ``document`` and ``roots`` (see `~obscluster.report.bokeh_document.stable_json`),
        ``columns`` (what can be drawn and listed), ``looks`` of the groups, ``partitions`` and
        what is known of each, the ``tree``, and what a downloaded file says of its origin.
    """
    quantities = [*content.conditions, *content.features]
    columns, listed = _columns(content, quantities)
    sky = None
    if content.pointing is not None:
        sky = sky_map(*content.pointing)
        columns |= {"sky_x": sky.x, "sky_y": sky.y}
    tree, drawn = _tree(content, columns)
    document = make_document(columns, sky, "time" in columns, drawn)
    json, roots = stable_json(document)
    labels = content.labels
    n_groups = content.grouping.n_groups
    partitions = {n: values.tolist() for n, values in content.partitions.items()}
    partitions[n_groups] = labels.tolist()
    return {
        "document": json,
        "roots": roots,
        "columns": listed,
        "pairs": _first_pairs(listed),
        "labels": labels.tolist(),
        "hours": [round(float(value), 5) for value in content.hours],
        "words": {str(k): v for k, v in content.words.items()},
        "looks": {
            str(k): [look.light, look.dark, look.bokeh_marker] for k, look in content.looks.items()
        },
        "partitions": {str(n): partitions[n] for n in sorted(partitions)}
        if len(partitions) > 1
        else {},
        "n_groups": n_groups,
        "known": _known(content, sorted(partitions)),
        "tree": tree,
        "sky_is_whole": bool(sky is not None and sky.whole_sky),
        "archive": str(content.record.get("archive", "")),
    }


def _columns(
    content: ReportContent, quantities: list[Quantity]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Columns of the runs, and a list of those that can be drawn."""
    ids = content.grouping.obs_ids
    labels = content.labels.tolist()
    columns: dict[str, Any] = {
        "obs_id": [str(obs_id) for obs_id in ids.tolist()],
        "color": [content.looks[label].light for label in labels],
        "marker": [content.looks[label].bokeh_marker for label in labels],
    }
    listed: list[dict[str, Any]] = []
    if content.targets:
        columns["target"] = [str(target) for target in content.targets]
    if np.isfinite(content.mjd).any():
        # In milliseconds, as scripts count time.
        columns["time"] = (content.mjd - _UNIX_EPOCH_MJD) * 86400e3
    for i, quantity in enumerate(quantities):
        key = f"q{i}"
        columns[key] = quantity.values.astype(np.float64)
        listed.append(
            {
                "key": key,
                "name": quantity.key,
                "label": _plain(quantity.label),
                "unit": _plain(quantity.unit),
                "feature": quantity.is_feature,
                "varies": quantity.varies,
            }
        )
    lanes = [float(label) if label != UNASSIGNED else 0.0 for label in labels]
    rank = np.argsort(np.argsort(ids)) + 1.0
    columns |= {"rank": rank, "lane": np.array(lanes)}
    listed.append(
        {"key": "rank", "name": "rank", "label": "run, in order of OBS_ID", "unit": ""}
        | {"feature": False, "varies": True, "hidden": True}
    )
    first = _first_pairs(listed)
    for key, name in zip(
        ("cx", "cy", "fx", "fy", "ty"),
        (*first["conditions"], *first["features"], first["conditions"][0]),
        strict=True,
    ):
        columns[key] = columns[name]
    return columns, listed


def _plain(text: str) -> str:
    """Text that bokeh does not take for a formula."""
    return text.replace("$$", "$ $").replace("\\", " ")


def _first_pairs(listed: list[dict[str, Any]]) -> dict[str, list[str]]:
    """What the plots show at first: conditions and features that vary."""
    conditions = [c["key"] for c in listed if not c["feature"] and c["varies"]]
    features = [c["key"] for c in listed if c["feature"] and c["varies"]]
    zenith = [c["key"] for c in listed if c["name"] in ("ZEN_PNT", "zenith")]
    muons = [c["key"] for c in listed if c["name"] in ("MUONEFF", "muoneff")]
    first = [*zenith, *muons, *conditions, *features]
    first = list(dict.fromkeys(first))
    return {
        "conditions": (first + first)[:2] or ["rank", "rank"],
        "features": [*features, "rank", "rank"][:2][:: 1 if len(features) > 1 else -1],
    }


def _known(content: ReportContent, numbers: list[int]) -> dict[str, dict[str, float]]:
    """Silhouette and lost information of each number of groups, where these are known."""
    known: dict[str, dict[str, float]] = {str(n): {} for n in numbers}
    if len(content.quality) and "silhouette" in content.quality.colnames:
        for n, value in zip(
            content.quality["n_groups"], content.quality["silhouette"], strict=True
        ):
            if str(n) in known and np.isfinite(value):
                known[str(n)]["silhouette"] = round(float(value), 4)
    for n, loss in content.losses_by_number.items():
        if str(n) in known and np.isfinite(loss):
            known[str(n)]["loss"] = round(max(float(loss), 0.0), 7)
    if content.loss is not None:
        known[str(content.grouping.n_groups)]["loss"] = round(max(content.loss, 0.0), 7)
    return known


def _tree(
    content: ReportContent, columns: dict[str, Any]
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Tree as the script needs it, and as it is drawn; adds the places of the leaves."""
    linkage = content.grouping.linkage
    if linkage is None or not len(linkage):
        return None, None
    rows = np.flatnonzero(content.labels != UNASSIGNED)
    position, level = leaf_positions(linkage)
    n_leaves = len(linkage) + 1
    if len(rows) != n_leaves:
        return None, None
    leaf_x = np.full(len(content.labels), np.nan)
    leaf_x[rows] = position[:n_leaves]
    columns |= {"leaf_x": leaf_x, "leaf_y": np.where(np.isfinite(leaf_x), 0.0, np.nan)}
    first = max(len(linkage) - _MOST_BRANCHES, 0)
    left, right = linkage[:, 0].astype(int), linkage[:, 1].astype(int)
    merges = np.arange(first, len(linkage))
    xs = np.column_stack([position[left], position[left], position[right], position[right]])
    top = level[n_leaves:]
    ys = np.column_stack([level[left], top, top, level[right]])
    cuts = {str(n): _cut(linkage, n) for n in range(1, max([1, *content.partitions]) + 1)}
    method = str((content.grouping.parameters.get("linkage") or {}).get("method", ""))
    height = f"{method.capitalize()} distance".strip()
    if content.grouping.parameters.get("method") == "information":
        height = "information lost"
    drawn = {
        "xs": np.round(xs[merges], 3).tolist(),
        "ys": [[float(f"{value:.5g}") for value in line] for line in ys[merges]],
        "height": height,
        "cut": cuts.get(str(content.grouping.n_groups)) or 0.0,
    }
    tree = {
        "left": left.tolist(),
        "right": right.tolist(),
        "rows": rows.tolist(),
        "first": first,
        "cuts": cuts,
    }
    return tree, drawn


def _cut(linkage: NDArray[np.float64], n_groups: int) -> float | None:
    """Height of the cut into so many groups."""
    falling = np.sort(np.maximum.accumulate(linkage[:, 2]))[::-1]
    if n_groups > len(falling):
        return None
    above = falling[n_groups - 2] if n_groups > 1 else 1.1 * falling[0]
    return float(f"{0.5 * (above + falling[n_groups - 1]):.6g}")
