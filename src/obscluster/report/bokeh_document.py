"""The linked plots of the explorer as a bokeh document, the same bytes each time.

This and `obscluster.report.html`, which puts bokeh's scripts into the page, are all that knows of
bokeh. What the plots do is in ``page/explorer.js`` and ``page/linked.js``, and nothing of it is
here: bokeh runs code that comes with a document by ``eval``, which the page does not allow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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

from obscluster.report.sky import SkyMap

__all__ = ["Document", "make_document", "stable_json"]

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
    sky : `~obscluster.report.sky.SkyMap` or None
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
        document.add_root(_tree(tree, source, size))
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


def _tree(tree: Mapping[str, Any], source: ColumnDataSource, size: float) -> Any:
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
