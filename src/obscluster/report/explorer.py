"""The explorer of a report: what it knows, and its linked plots as a bokeh document.

This and `obscluster.report.html`, which puts bokeh's scripts into the page, are all that knows of
bokeh. What the plots do is in ``page/explorer.js`` and ``page/linked.js``, and nothing of it is
here: bokeh runs code that comes with a document by ``eval``, which the page does not allow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from bokeh.document import Document
from bokeh.models import (
    BoxSelectTool,
    ColumnDataSource,
    DatetimeTickFormatter,
    HoverTool,
    LassoSelectTool,
    PanTool,
    Range1d,
    ResetTool,
    Scatter,
    TapTool,
    WheelZoomTool,
)
from bokeh.models.annotations import Span
from bokeh.plotting import figure
from numpy.typing import NDArray

from obscluster.grouping import UNASSIGNED
from obscluster.plots.dendrogram import leaf_positions
from obscluster.report.content import Quantity, ReportContent
from obscluster.report.pictures import SkyMap, sky_map

__all__ = ["Document", "explorer_data", "make_document", "stable_json"]

_HEIGHT = 300
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def make_document(
    columns: Mapping[str, Any],
    sky: SkyMap | None,
    with_time: bool,
    tree: Mapping[str, Any] | None,
) -> Document:
    """Linked plots of one table of runs.

    Parameters
    ----------
    columns : mapping
        Columns of the runs; ``cx``, ``cy``, ``fx`` and ``fy`` are drawn in the first two plots,
        ``sky_x``, ``sky_y``, ``time``, ``ty`` and ``leaf_x`` in the others.
    sky : `~obscluster.report.pictures.SkyMap` or None
        The map; None for none.
    with_time : bool
        Whether there is a time line.
    tree : mapping or None
        ``xs``, ``ys`` and ``height`` of the branches; None for none.

    Returns
    -------
    document : `~bokeh.document.Document`
        With a root for each plot, called by its name.
    """
    source = ColumnDataSource(dict(columns), name="runs")
    n_obs = len(columns["obs_id"])
    size = 9 if n_obs <= 200 else 7 if n_obs <= 1000 else 5
    document = Document(title="obscluster")
    for name, x, y in (("conditions", "cx", "cy"), ("features", "fx", "fy")):
        plot = _plot(name)
        _scatter(plot, source, x, y, size)
        document.add_root(plot)
    if sky is not None:
        options = {
            axis: Range1d(start=start, end=end)
            for axis, (start, end) in (("x_range", sky.x_range), ("y_range", sky.y_range))
        }
        plot = _plot("sky", match_aspect=False, **options)
        if sky.whole_sky:
            xs, ys = ([line[i].tolist() for line in sky.lines] for i in (0, 1))
            plot.multi_line(xs, ys, line_color="#c8ccd2", line_width=0.8, name="graticule")
            plot.axis.visible = False
            plot.grid.visible = False
        plot.xaxis.axis_label = "right ascension [deg]"
        plot.yaxis.axis_label = "declination [deg]"
        plot.xaxis.ticker.desired_num_ticks = 4
        _scatter(plot, source, "sky_x", "sky_y", size)
        document.add_root(plot)
    if with_time:
        plot = _plot("time", x_axis_type="datetime")
        plot.xaxis.axis_label = "date (UTC)"
        # Dates are long.
        plot.xaxis.ticker.desired_num_ticks = 4
        plot.xaxis.formatter = DatetimeTickFormatter(
            hours="%H:%M", days="%d %b %Y", months="%b %Y", years="%Y"
        )
        _scatter(plot, source, "time", "ty", size)
        document.add_root(plot)
    if tree is not None:
        document.add_root(_tree_plot(tree, source, size))
    return document


def _plot(name: str, **options: Any) -> Any:
    plot = figure(
        name=name,
        height=_HEIGHT,
        min_width=260,
        sizing_mode="stretch_width",
        tools=[],
        toolbar_location="above",
        **options,
    )
    select = BoxSelectTool(name="box")
    plot.add_tools(select, LassoSelectTool(), PanTool(), WheelZoomTool(), ResetTool(), TapTool())
    plot.toolbar.active_drag = select
    plot.toolbar.active_scroll = None
    plot.toolbar.logo = None
    plot.toolbar.autohide = False
    plot.border_fill_color = None
    plot.background_fill_color = None
    plot.outline_line_color = None
    plot.axis.axis_label_text_font = plot.axis.major_label_text_font = _FONT
    plot.axis.axis_label_text_font_style = "normal"
    plot.axis.axis_label_text_font_size = "13px"
    plot.axis.major_label_text_font_size = "12px"
    plot.axis.minor_tick_line_color = None
    plot.grid.grid_line_width = 1
    return plot


def _scatter(plot: Any, source: ColumnDataSource, x: str, y: str, size: float) -> None:
    options: dict[str, Any] = {"x": x, "y": y, "size": size, "marker": "marker"}
    # The columns of these names.
    colour = "color"
    renderer = plot.add_glyph(
        source,
        Scatter(**options, fill_color=colour, line_color=colour, fill_alpha=0.75),
        selection_glyph=Scatter(
            **options,
            fill_color=colour,
            line_color="#16191d",
            line_width=1.6 if size >= 7 else 0.7,
        ),
        nonselection_glyph=Scatter(**options, fill_color=colour, line_alpha=0, fill_alpha=0.15),
    )
    renderer.name = "points"
    # The page draws the tip itself, so that it can be read on dark pages too, and holds text only.
    hover = HoverTool(renderers=[renderer], tooltips=None, mode="mouse")
    hover.visible = False
    plot.add_tools(hover)


def _tree_plot(tree: Mapping[str, Any], source: ColumnDataSource, size: float) -> Any:
    plot = _plot("tree")
    branches = ColumnDataSource(
        {"xs": tree["xs"], "ys": tree["ys"], "color": ["#5d646e"] * len(tree["xs"])},
        name="branches",
    )
    lines = plot.multi_line("xs", "ys", source=branches, line_color="color", line_width=1.3)
    # A branch is no run: it is neither selected nor pointed at.
    lines.selection_glyph = lines.nonselection_glyph = None
    lines.name = "tree-lines"
    for tool in plot.tools:
        if isinstance(tool, BoxSelectTool | LassoSelectTool | TapTool):
            tool.renderers = []
    _scatter(plot, source, "leaf_x", "leaf_y", size)
    points = plot.select_one({"name": "points"})
    for tool in plot.tools:
        if isinstance(tool, BoxSelectTool | LassoSelectTool | TapTool):
            tool.renderers = [points]
    cut = Span(dimension="width", location=tree["cut"], line_dash=[5, 4], name="cut")
    plot.add_layout(cut)
    plot.xaxis.visible = False
    plot.xgrid.visible = False
    plot.yaxis.axis_label = tree["height"]
    return plot


def stable_json(document: Document) -> tuple[dict[str, Any], dict[str, str]]:
    """A document as JSON with identifiers that do not depend on what was made before.

    Parameters
    ----------
    document : `~bokeh.document.Document`
        The plots.

    Returns
    -------
    content : dict
        What bokeh reads.
    roots : dict
        Name of each plot to its identifier.
    """
    content = document.to_json(deferred=False)
    numbers: dict[str, str] = {}
    renumbered = _renumbered(content, numbers)
    roots = {str(root.name): numbers[root.id] for root in document.roots}
    return renumbered, roots


def _renumbered(value: Any, numbers: dict[str, str]) -> Any:
    if isinstance(value, dict):
        content = {}
        for key, item in value.items():
            if key == "id" and isinstance(item, str):
                content[key] = numbers.setdefault(item, f"m{len(numbers) + 1}")
            else:
                content[key] = _renumbered(item, numbers)
        return content
    if isinstance(value, list):
        return [_renumbered(item, numbers) for item in value]
    return value


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
        ``document`` and ``roots`` (see `~obscluster.report.explorer.stable_json`),
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
