"""Responses of the runs over each other against energy."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from astropy import units as u
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from obscluster.curves import IrfCurves
from obscluster.report.colours import PAPER
from obscluster.report.content import ReportContent
from obscluster.report.quantities import decade_text, unit_words
from obscluster.report.svg import Picture, draw_picture

__all__ = ["curve_pictures"]

_TITLES = {
    "aeff": "Effective area",
    "psf-r68": "PSF, 68 % containment radius",
    "edisp-res68": "Energy resolution, half the central 68 % width",
}
_AXES = {
    "aeff": "effective area",
    "psf-r68": "PSF radius, 68 %",
    "edisp-res68": "energy resolution, 68 %",
}


def curve_pictures(content: ReportContent) -> list[Picture]:
    """Responses of the runs against energy, and the mean of each group."""
    curves = content.curves
    if curves is None:
        return []
    return [
        draw_picture(
            f"curve-{name}",
            f"{title}, against energy",
            partial(_draw, content=content, curves=curves, name=name),
            content.looks,
        )
        for name, title in _TITLES.items()
        if np.isfinite(curves.values[name]).any()
    ]


def _draw(ax: Axes, content: ReportContent, curves: IrfCurves, name: str) -> None:
    values, labels = curves.values[name], content.labels[curves.rows]
    thin = float(np.interp(len(labels), [20, 300], [0.9, 0.4]))
    for label in content.with_unassigned:
        members = values[labels == label]
        # A line for all of them, interrupted: one element instead of hundreds.
        x: NDArray[np.float64] = np.tile(np.append(curves.energy, np.nan), len(members))
        y = np.column_stack([members, np.full(len(members), np.nan)]).ravel()
        ax.plot(x, y, color=content.looks[label].light, linewidth=thin, alpha=0.45)
    for label, mean in curves.means(name, content.labels).items():
        look, every = content.looks[label], max(len(mean) // 5, 1)
        ax.plot(curves.energy, mean, color=PAPER, linewidth=4.5)
        ax.plot(
            *(curves.energy, mean),
            color=look.light,
            linewidth=2.4,
            marker=look.marker,
            markersize=6,
            # Not all at the same energies, where they would hide each other.
            markevery=(label % every, every),
        )
    unit = unit_words(u.Unit(curves.units[name]))
    ax.set_xlabel("true energy [TeV]")
    ax.set_ylabel(f"{_AXES[name]} [{unit}]" if unit else _AXES[name])
    ax.set_xscale("log")
    _plain_log(ax.xaxis)
    if name == "aeff":
        ax.set_yscale("log")
        _plain_log(ax.yaxis)
    else:
        ax.set_ylim(bottom=0.0)
        ax.yaxis.set_major_locator(MaxNLocator(5))


def _plain_log(axis: Any) -> None:
    axis.set_major_locator(LogLocator(numticks=6))
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _: decade_text(value)))
