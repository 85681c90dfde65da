"""What a fit says, in tables: parameters, spectrum, flux points, residuals per group."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable, Table, vstack
from gammapy.datasets import Datasets
from gammapy.estimators import FluxPointsEstimator
from gammapy.maps import Map
from gammapy.modeling.models import Models
from gammapy.stats import CashCountsStatistic, WStatCountsStatistic
from numpy.typing import NDArray

from obscluster.reduction.geometry import is_spectrum
from obscluster.reduction.models import SOURCE_NAME

__all__ = [
    "counts_images",
    "flux_point_table",
    "parameter_table",
    "residual_table",
    "spectrum_table",
]

_FLUX_UNIT = u.Unit("cm-2 s-1 TeV-1")


def parameter_table(models: Models) -> Table:
    """Parameters of all models: ``model``, ``name``, ``value``, ``error``, ``unit``, ``frozen``.

    Parameters
    ----------
    models : `gammapy.modeling.models.Models`
        The models.
    """
    rows = [
        (model.name, p.name, float(p.value), float(p.error), str(p.unit), bool(p.frozen))
        for model in models
        for p in model.parameters
    ]
    return Table(rows=rows, names=["model", "name", "value", "error", "unit", "frozen"])


def spectrum_table(models: Models, datasets: Datasets) -> QTable:
    """Fitted spectrum and its 68 % band over the energies of the fit.

    Parameters
    ----------
    models : `gammapy.modeling.models.Models`
        The fitted models.
    datasets : `gammapy.datasets.Datasets`
        What was fitted.

    Returns
    -------
    table : `~astropy.table.QTable`
        ``energy``, ``dnde``, ``dnde_lo``, ``dnde_hi``, 100 rows.
    """
    low, high = _fitted_range(datasets)
    energy = np.geomspace(low.to_value("TeV"), high.to_value("TeV"), 100) * u.TeV
    model = models[SOURCE_NAME].spectral_model
    median, down, up = model.evaluate_error(energy)
    return QTable(
        {
            "energy": energy,
            "dnde": model(energy).to(_FLUX_UNIT),
            "dnde_lo": (median - down).to(_FLUX_UNIT),
            "dnde_hi": (median + up).to(_FLUX_UNIT),
        }
    )


def _fitted_energies(datasets: Datasets) -> u.Quantity:
    """Edges of the bins in energy that any dataset uses."""
    edges = datasets[0].counts.geom.axes["energy"].edges
    used = np.zeros(len(edges) - 1, dtype=bool)
    for dataset in datasets:
        used |= dataset.mask.data.reshape(len(used), -1).any(axis=1)
    found = np.flatnonzero(used)
    return edges[found[0] : found[-1] + 2]


def _fitted_range(datasets: Datasets) -> tuple[u.Quantity, u.Quantity]:
    edges = _fitted_energies(datasets)
    return edges[0], edges[-1]


def flux_point_table(datasets: Datasets, per_decade: int, workers: int = 1) -> Table | None:
    """Flux points of all datasets together; None if none are wanted.

    Parameters
    ----------
    datasets : `gammapy.datasets.Datasets`
        The datasets with the fitted models.
    per_decade : int
        About how many; edges are those of the datasets.
    workers : int
        Number of processes.

    Returns
    -------
    table : `~astropy.table.Table`
        ``e_ref``, ``e_min``, ``e_max``, ``dnde``, ``dnde_err``, ``dnde_ul``, ``sqrt_ts`` and more,
        as Gammapy writes them.
    """
    if per_decade == 0:
        return None
    edges = _fitted_energies(datasets)
    decades = float(np.log10(edges[-1] / edges[0]))
    step = max(1, round((len(edges) - 1) / max(1.0, decades * per_decade)))
    chosen = edges[::step]
    if chosen[-1] < edges[-1]:
        # The last point takes the bins that are left.
        chosen = np.append(chosen[: max(1, len(chosen) - 1)], edges[-1])
    copies = Datasets([dataset.copy(name=dataset.name) for dataset in datasets])
    copies.models = datasets.models.copy()
    # Points are multiples of the fit; those of a negative one would have their limits below them.
    amplitude = copies.models[SOURCE_NAME].spectral_model.amplitude
    amplitude.value = abs(amplitude.value) or amplitude.error
    estimator = FluxPointsEstimator(
        energy_edges=chosen, source=SOURCE_NAME, selection_optional=["ul"], n_jobs=workers
    )
    table = estimator.run(copies).to_table(sed_type="dnde", format="gadf-sed")
    # One row per dataset and energy is more than a table of points needs.
    table.remove_columns([n for n in table.colnames if table[n].ndim > 1 or n == "stat_scan"])
    return table


def residual_table(datasets: Datasets, position: SkyCoord, radius: u.Quantity) -> QTable:
    """Counts, prediction and significance of their difference, per dataset and energy.

    Parameters
    ----------
    datasets : `gammapy.datasets.Datasets`
        The datasets with the fitted models.
    position : `~astropy.coordinates.SkyCoord`
        The target: on maps, what is within the radius of it is counted.
    radius : `~astropy.units.Quantity`
        That radius.

    Returns
    -------
    table : `~astropy.table.QTable`
        ``dataset``, ``e_min``, ``e_max``, ``counts``, ``npred``, ``background``, ``significance``;
        only bins of the fit.
    """
    tables = []
    for dataset in datasets:
        axis = dataset.counts.geom.axes["energy"]
        counts, npred, background, significance, used = _bins(dataset, position, radius)
        table = QTable({"e_min": axis.edges[:-1].to("TeV"), "e_max": axis.edges[1:].to("TeV")})
        table["counts"] = counts
        table["npred"] = npred
        table["background"] = background
        table["significance"] = significance
        table.add_column(np.full(len(table), dataset.name), 0, name="dataset")
        tables.append(table[used])
    return vstack(tables)


def _bins(dataset: Any, position: SkyCoord, radius: u.Quantity) -> tuple[NDArray[Any], ...]:
    """Counts, prediction, background, significance, and whether used, shape (n_energies,)."""
    if is_spectrum(dataset):
        counts = dataset.counts.data.ravel()
        signal = dataset.npred_signal().data.ravel()
        off, alpha = dataset.counts_off.data.ravel(), dataset.alpha.data.ravel()
        statistic = WStatCountsStatistic(counts, off, alpha, signal)
        background = dataset.npred_background().data.ravel()
        used = dataset.mask.data.ravel()
        npred = signal + background
    else:
        geom = dataset.counts.geom
        near = geom.separation(position) < radius
        mask = dataset.mask.data & near
        sums = [
            np.nansum(np.where(mask, cube.data, 0), axis=(1, 2))
            for cube in (dataset.counts, dataset.npred(), dataset.npred_background())
        ]
        counts, npred, background = sums
        statistic = CashCountsStatistic(counts, npred)
        used = mask.any(axis=(1, 2))
    significance = np.where(used, np.nan_to_num(statistic.sqrt_ts), 0.0)
    return counts, npred, background, significance, used


def counts_images(datasets: Datasets) -> dict[str, tuple[Map, Map]]:
    """Counts and prediction of each map dataset, summed over the energies of the fit.

    Parameters
    ----------
    datasets : `gammapy.datasets.Datasets`
        The datasets; spectra have no image.
    """
    images = {}
    for dataset in datasets:
        if not is_spectrum(dataset):
            mask = dataset.mask
            images[dataset.name] = (
                (dataset.counts * mask).sum_over_axes(keepdims=False),
                (dataset.npred() * mask).sum_over_axes(keepdims=False),
            )
    return images
