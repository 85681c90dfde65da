"""Pictures of a joint fit: the spectrum, residuals per group, counts maps.

- `plot_spectrum`: the fitted spectrum with its band, and flux points, times energy squared.
- `plot_residuals`: how far the counts of each group are from the prediction.
- `plot_counts`: image of the counts of a group, smoothed.

They draw tables and arrays, and need no Gammapy.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.table import QTable, Table
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

from obscluster.report.plots import save_figure
from obscluster.report.style import group_style, group_text

__all__ = ["plot_counts", "plot_residuals", "plot_spectrum", "write_fit_plots"]

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
        import matplotlib.pyplot as plt

        ax = plt.gca()
    table = QTable(spectrum)
    energy = table["energy"].to_value("TeV")
    sed = {
        name: (table[name] * table["energy"] ** 2).to_value(_SED_UNIT)
        for name in ("dnde", "dnde_lo", "dnde_hi")
    }
    line = {"color": "#0072b2", "label": "joint fit, 68 % band"} | kwargs
    (drawn,) = ax.plot(energy, sed["dnde"], **line)
    band = ax.fill_between(
        energy, sed["dnde_lo"], sed["dnde_hi"], color=line["color"], alpha=0.3, lw=0
    )
    handles = [((band, drawn), drawn.get_label())]
    if points is not None and len(points):
        handles += _draw_points(ax, QTable(points))
    ax.set_yscale("log")
    _scale_energies(ax)
    ax.set_ylabel(r"$E^2\,dN/dE$ [erg cm$^{-2}$ s$^{-1}$]")
    ax.grid(alpha=0.3)
    ax.legend(*zip(*handles, strict=True), fontsize="small")
    return ax


def _draw_points(ax: Axes, points: QTable) -> list[tuple[Any, str]]:
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
    style: dict[str, Any] = {"linestyle": "none", "color": _COLOR}
    handles: list[tuple[Any, str]] = []
    if seen.any():
        bars = [width[seen] for width in widths]
        options = style | {"marker": "o", "markersize": 4}
        drawn = ax.errorbar(energy[seen], value[seen], xerr=bars, yerr=error[seen], **options)
        handles.append((drawn, "flux points"))
    if limited.any():
        # The arrows of error bars are not in legends; one that hangs there hides its neighbour.
        bars = [width[limited] for width in widths]
        ax.errorbar(energy[limited], limit[limited], xerr=bars, **style)
        ax.plot(energy[limited], limit[limited], marker=_arrow(0), markersize=22, **style)
        handle = Line2D([], [], marker=_arrow(0.5), markersize=9, **style)
        handles.append((handle, "95 % upper limits"))
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
        import matplotlib.pyplot as plt

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
    spectrum: Table,
    residuals: Table,
    points: Table | None,
    images: Mapping[str, tuple[Any, Any, Any]],
    n_runs: Mapping[str, int],
) -> list[str]:
    """Draw ``spectrum.png``, ``residuals.png`` and, for maps, ``counts_<group>.png``.

    Parameters
    ----------
    directory : `~pathlib.Path`
        Where the files go.
    spectrum, residuals, points : `~astropy.table.Table`
        See `plot_spectrum` and `plot_residuals`.
    images : mapping
        Name of each group to its counts, their prediction, and their projection.
    n_runs : mapping
        Number of runs of each group.

    Returns
    -------
    files : list of str
        Names of the files.
    """
    figure = Figure(figsize=(7, 5), layout="constrained")
    plot_spectrum(spectrum, points, figure.subplots())
    save_figure(figure, directory / "spectrum.png")
    figure = Figure(figsize=(7, 4), layout="constrained")
    plot_residuals(residuals, n_runs, figure.subplots())
    save_figure(figure, directory / "residuals.png")
    files = ["spectrum.png", "residuals.png"]
    for name, (counts, npred, wcs) in images.items():
        figure = Figure(figsize=(10, 4.2), layout="constrained")
        panels = [figure.add_subplot(1, 2, i, projection=wcs) for i in (1, 2)]
        title = group_text(name, n_runs.get(name, 0))
        # The root shows the background beside a strong source.
        plot_counts(counts, panels[0], title=title, norm=PowerNorm(0.5, vmin=0))
        excess = np.asarray(counts) - np.asarray(npred)
        # White is where counts and prediction agree.
        largest = float(np.abs(gaussian_filter(np.nan_to_num(excess), 2.0)).max()) or 1.0
        options: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest}
        plot_counts(excess, panels[1], title="counts minus prediction", **options)
        # The same axis as on the left.
        panels[1].coords[1].set_axislabel("")
        save_figure(figure, directory / f"counts_{name}.png")
        files.append(f"counts_{name}.png")
    return files
