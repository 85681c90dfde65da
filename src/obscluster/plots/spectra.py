"""Pictures of a joint fit: the spectrum, residuals per group, counts maps.

- `plot_spectrum`: the fitted spectrum with its band, and flux points, times energy squared.
- `plot_residuals`: how far the counts of each group are from the prediction.
- `plot_light_curve`: flux against time.
- `plot_counts`: image of the counts of a group, smoothed.

They draw tables and arrays, and need no Gammapy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from astropy import units as u
from astropy.table import QTable, Table
from astropy.time import Time
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path as Outline
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter

from obscluster.plots.scatter import save_figure
from obscluster.plots.style import group_style, group_text

__all__ = ["plot_counts", "plot_light_curve", "plot_residuals", "plot_spectrum", "write_fit_plots"]

_SED_UNIT = u.Unit("erg cm-2 s-1")
_COLOR = "0.15"


def _arrow(top: float) -> MarkerStyle:
    """Arrow downwards from below a bar that lies ``top`` above the middle of the marker."""
    tip, wing = (0.0, top - 1), top - 0.65
    lines: list[list[tuple[float, float]]] = [
        [(-0.4, top), (0.4, top)],
        [(0.0, top), tip],
        [(-0.3, wing), tip, (0.3, wing)],
    ]
    return MarkerStyle(Outline.make_compound_path(*(Outline(line) for line in lines)))


def plot_spectrum(
    spectrum: Table, points: Table | None = None, ax: Axes | None = None, **kwargs: Any
) -> Axes:
    """Plot a fitted spectrum with its band, and flux points; energy squared times flux.

    Parameters
    ----------
    spectrum : `~astropy.table.QTable`
        ``energy``, ``dnde``, ``dnde_lo``, ``dnde_hi``.
    points : `~astropy.table.Table`, optional
        ``e_ref``, ``e_min``, ``e_max``, ``dnde``, ``dnde_err``, ``dnde_ul``, ``sqrt_ts``. Points
        of less than two sigma are drawn as upper limits.
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw; the current axes by default.
    **kwargs
        Passed to `matplotlib.axes.Axes.plot` of the line.

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        The axes.
    """
    if ax is None:
        ax = plt.gca()
    table = QTable(spectrum)
    names = _names_in(table, "source")
    handles: list[tuple[Any, str]] = []
    for name, style in zip(names, group_style(names).values(), strict=True):
        rows = table if name == "" else table[np.asarray(table["source"]).astype(str) == name]
        energy = rows["energy"].to_value("TeV")
        sed = {
            column: (rows[column] * rows["energy"] ** 2).to_value(_SED_UNIT)
            for column in ("dnde", "dnde_lo", "dnde_hi")
        }
        label = f"{name or 'joint fit'}, 68 % band"
        line = {"color": style[0] if name else "#0072b2", "label": label} | kwargs
        (drawn,) = ax.plot(energy, sed["dnde"], **line)
        band = ax.fill_between(
            energy, sed["dnde_lo"], sed["dnde_hi"], color=line["color"], alpha=0.3, lw=0
        )
        handles.append(((band, drawn), str(drawn.get_label())))
    if points is not None and len(points):
        parts = _names_in(points, "part")
        for name, style in zip(parts, group_style(parts).values(), strict=True):
            rows = points if name == "" else points[np.asarray(points["part"]).astype(str) == name]
            handles += _draw_points(ax, QTable(rows), name, style[0] if name else _COLOR)
    ax.set_yscale("log")
    _scale_energies(ax)
    ax.set_ylabel(r"$E^2\,dN/dE$ [erg cm$^{-2}$ s$^{-1}$]")
    ax.grid(alpha=0.3)
    ax.legend(*zip(*handles, strict=True), fontsize="small")
    return ax


def _names_in(table: Table, column: str) -> list[str]:
    """Different values of a column in their order; one empty text if there is none."""
    if column not in table.colnames:
        return [""]
    return list(dict.fromkeys(np.asarray(table[column]).astype(str).tolist()))


def _draw_points(ax: Axes, points: QTable, name: str, color: str) -> list[tuple[Any, str]]:
    """Draw points and limits; what stands for them in the legend, and its text."""
    energy = points["e_ref"].to_value("TeV")
    widths = [
        energy - points["e_min"].to_value("TeV"),
        points["e_max"].to_value("TeV") - energy,
    ]
    value, error, limit = (
        (points[name] * points["e_ref"] ** 2).to_value(_SED_UNIT)
        for name in ("dnde", "dnde_err", "dnde_ul")
    )
    seen = np.asarray(points["sqrt_ts"]) >= 2
    limited = ~seen & np.isfinite(limit)
    style: dict[str, Any] = {"linestyle": "none", "color": color}
    of = f" of {name}" if name else ""
    handles: list[tuple[Any, str]] = []
    if seen.any():
        bars = [width[seen] for width in widths]
        options = style | {"marker": "o", "markersize": 4}
        drawn = ax.errorbar(energy[seen], value[seen], xerr=bars, yerr=error[seen], **options)
        handles.append((drawn, f"flux points{of}"))
    if limited.any():
        # The arrows of error bars are not in legends; one that hangs there hides its neighbour.
        bars = [width[limited] for width in widths]
        ax.errorbar(energy[limited], limit[limited], xerr=bars, **style)
        ax.plot(energy[limited], limit[limited], marker=_arrow(0), markersize=22, **style)
        handle = Line2D([], [], marker=_arrow(0.5), markersize=9, **style)
        handles.append((handle, f"95 % upper limits{of}"))
    return handles


def _scale_energies(ax: Axes) -> None:
    """Logarithmic axis of energies with plain numbers, several in a decade."""
    ax.set_xscale("log")
    axis: Axis = ax.xaxis
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("energy [TeV]")


def plot_residuals(
    residuals: Table,
    n_runs: Mapping[str, int] | None = None,
    ax: Axes | None = None,
    **kwargs: Any,
) -> Axes:
    """Plot how far the counts of each group are from the prediction, in sigma.

    Parameters
    ----------
    residuals : `~astropy.table.QTable`
        ``dataset``, ``e_min``, ``e_max``, ``significance``.
    n_runs : mapping, optional
        Number of runs of each group, for the legend.
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw; the current axes by default.
    **kwargs
        Passed to `matplotlib.axes.Axes.errorbar`.

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        The axes.
    """
    if ax is None:
        ax = plt.gca()
    table = QTable(residuals)
    names = list(dict.fromkeys(np.asarray(table["dataset"]).astype(str).tolist()))
    ax.axhspan(-1, 1, color="0.92", zorder=0)
    ax.axhline(0, color="0.5", linewidth=1, zorder=1)
    styles = group_style(names)
    for i, name in enumerate(names):
        color, marker = styles[name]
        rows = table[np.asarray(table["dataset"]) == name]
        low, high = (rows[edge].to_value("TeV") for edge in ("e_min", "e_max"))
        # Side by side within a bin, so that groups do not hide each other.
        energy = low * (high / low) ** ((i + 1) / (len(names) + 1))
        text = name if n_runs is None else group_text(name, n_runs.get(name, 0))
        options: dict[str, Any] = {
            "color": color,
            "marker": marker,
            "label": text,
            "markersize": 5,
        } | kwargs
        ax.errorbar(energy, np.asarray(rows["significance"]), yerr=1, linestyle="none", **options)
    _scale_energies(ax)
    ax.set_ylabel("counts minus prediction [sigma]")
    ax.grid(alpha=0.3)
    ax.legend(fontsize="small")
    return ax


def plot_light_curve(table: Table, ax: Axes | None = None, **kwargs: Any) -> Axes:
    """Plot flux against time; what is below two sigma as an upper limit.

    Nights of observation lie months apart, so that points stand beside each other in their order,
    and the axis tells the dates.

    Parameters
    ----------
    table : `~astropy.table.Table`
        ``time_min``, ``time_max`` in MJD, ``e_min``, ``e_max``, ``flux``, ``flux_err``,
        ``flux_ul``, ``sqrt_ts``.
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw; the current axes by default.
    **kwargs
        Passed to `matplotlib.axes.Axes.errorbar`.

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        The axes.
    """
    if ax is None:
        ax = plt.gca()
    rows = QTable(table)
    flux, error, limit = (rows[n].to_value("cm-2 s-1") for n in ("flux", "flux_err", "flux_ul"))
    seen = (np.asarray(rows["sqrt_ts"]) >= 2) & np.isfinite(error)
    place = np.arange(len(rows))
    options: dict[str, Any] = {"marker": "o", "markersize": 4, "color": _COLOR} | kwargs
    ax.errorbar(place[seen], flux[seen], yerr=error[seen], linestyle="none", **options)
    shown = ~seen & np.isfinite(limit)
    if shown.any():
        options |= {"marker": _arrow(0), "markersize": 22, "label": "95 % upper limits"}
        ax.plot(place[shown], limit[shown], linestyle="none", **options)
        ax.legend(fontsize="small", markerscale=0.4)
    ticks = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), 8)).round().astype(int))
    begin = np.asarray(rows["time_min"], dtype=float)
    dates = Time(begin[ticks], format="mjd").strftime("%Y-%m-%d\n%H:%M")
    ax.set_xticks(ticks, dates, fontsize="small")
    ax.set_xlim(-0.5, len(rows) - 0.5)
    low, high = (rows[n].to_value("TeV") for n in ("e_min", "e_max"))
    ax.set_ylabel(f"flux, {low.min():.3g} to {high.max():.3g} TeV [cm$^{{-2}}$ s$^{{-1}}$]")
    ax.set_xlabel("begin (TT); points in their order")
    ax.grid(alpha=0.3)
    return ax


def plot_counts(
    counts: ArrayLike, ax: Axes, smoothing: float = 2.0, title: str = "", **kwargs: Any
) -> Axes:
    """Plot an image of counts, smoothed.

    Parameters
    ----------
    counts : array-like
        Counts per pixel, shape (n_lat, n_lon).
    ax : `~matplotlib.axes.Axes`
        Where to draw; with a projection of astropy, the axes are coordinates of the sky.
    smoothing : float
        Sigma of the smoothing, in pixels.
    title : str
        Title.
    **kwargs
        Passed to `matplotlib.axes.Axes.imshow`.

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        The axes.
    """
    image = gaussian_filter(np.nan_to_num(np.asarray(counts, dtype=float)), smoothing)
    options = {"origin": "lower", "cmap": "inferno", "interpolation": "nearest"} | kwargs
    shown = ax.imshow(image, **options)
    ax.figure.colorbar(shown, ax=ax, label="counts per pixel, smoothed", shrink=0.8)
    ax.set_title(title, fontsize="medium")
    if hasattr(ax, "coords"):
        ax.set_xlabel("right ascension")
        ax.set_ylabel("declination")
    return ax


def write_fit_plots(
    directory: Path,
    tables: Mapping[str, Table],
    images: Mapping[str, tuple[Any, Any, Any]],
    n_runs: Mapping[str, int],
) -> tuple[list[str], dict[str, str]]:
    """Draw the pictures of a fit, as far as there is something to draw.

    These are ``spectrum.png``, ``residuals.png``, ``light_curve.png`` and, for maps,
    ``counts_<group>.png``.

    Parameters
    ----------
    directory : `~pathlib.Path`
        Where the files go.
    tables : mapping
        ``spectrum``, ``flux_points``, ``residuals``, ``light_curve``, as far as they are there: see
        `plot_spectrum`, `plot_residuals` and `plot_light_curve`.
    images : mapping
        Name of each group to its counts, their prediction, and their projection.
    n_runs : mapping
        Number of runs of each group.

    Returns
    -------
    files : list of str
        Names of the files.
    left_out : dict
        Files that could not be drawn, and why.
    """
    draw: dict[str, Callable[[Figure], Any]] = {}
    if "spectrum" in tables:
        points = tables.get("flux_points")
        draw["spectrum.png"] = lambda f: plot_spectrum(tables["spectrum"], points, f.subplots())
    if len(tables.get("residuals", ())):
        draw["residuals.png"] = lambda f: plot_residuals(tables["residuals"], n_runs, f.subplots())
    if len(tables.get("light_curve", ())):
        draw["light_curve.png"] = lambda f: plot_light_curve(tables["light_curve"], f.subplots())
    for name, image in images.items():
        title = group_text(name, n_runs.get(name, 0))
        draw[f"counts_{name}.png"] = partial(_draw_counts, *image, title)
    sizes = {"spectrum.png": (7, 5), "residuals.png": (7, 4), "light_curve.png": (7, 4)}
    files, left_out = [], {}
    for name, picture in draw.items():
        figure = Figure(figsize=sizes.get(name, (10, 4.2)), layout="constrained")
        try:
            picture(figure)
            save_figure(figure, directory / name)
        except Exception as error:  # noqa: BLE001 a picture is no reason to lose the fit
            (directory / name).unlink(missing_ok=True)
            left_out[name] = f"{type(error).__name__}: {error}"
        else:
            files.append(name)
    return files, left_out


def _draw_counts(counts: Any, npred: Any, wcs: Any, title: str, figure: Figure) -> None:
    """Counts, and what is left of them without the prediction."""
    panels = [figure.add_subplot(1, 2, i, projection=wcs) for i in (1, 2)]
    # The root shows the background beside a strong source.
    plot_counts(counts, panels[0], title=title, norm=PowerNorm(0.5, vmin=0))
    excess = np.asarray(counts) - np.asarray(npred)
    # White is where counts and prediction agree.
    largest = float(np.abs(gaussian_filter(np.nan_to_num(excess), 2.0)).max()) or 1.0
    options: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest}
    plot_counts(excess, panels[1], title="counts minus prediction", **options)
    # The same axis as on the left.
    panels[1].coords[1].set_axislabel("")
