"""What a fit says, in tables: parameters, spectrum, flux points, residuals per group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable, Table, vstack
from gammapy.datasets import Datasets
from gammapy.estimators import FluxPointsEstimator
from gammapy.maps import Map
from gammapy.modeling.models import Models, SkyModel
from gammapy.stats import CashCountsStatistic, WStatCountsStatistic
from numpy.typing import NDArray

from obscluster.reduction.geometry import fitted_mask, is_map, is_points, is_spectrum
from obscluster.reduction.models import SOURCE_NAME, FitDatasets, source_of, sources

__all__ = [
    "counts_images",
    "distinct_sources",
    "fitted_energies",
    "flux_point_table",
    "parameter_table",
    "residual_table",
    "spectrum_table",
    "with_one_source",
]

_SOME_FLUX = 1e-14
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
        ``energy``, ``dnde``, ``dnde_lo``, ``dnde_hi``, 100 rows; if groups or instruments have
        spectra of their own, as many of each, with its name in the column ``source``.
    """
    low, high = _fitted_range(datasets)
    energy = np.geomspace(low.to_value("TeV"), high.to_value("TeV"), 100) * u.TeV
    tables, found = [], distinct_sources(models)
    for source in found:
        model = source.spectral_model
        median, down, up = model.evaluate_error(energy)
        columns = {
            "energy": energy,
            "dnde": model(energy).to(_FLUX_UNIT),
            "dnde_lo": (median - down).to(_FLUX_UNIT),
            "dnde_hi": (median + up).to(_FLUX_UNIT),
        }
        own = {"source": [source.name] * len(energy)} if len(found) > 1 else {}
        tables.append(QTable({**own, **columns}))
    return vstack(tables)


def distinct_sources(models: Models) -> list[SkyModel]:
    """Models of the source that differ in their spectrum."""
    found: dict[int, SkyModel] = {}
    for source in sources(models):
        found.setdefault(id(source.spectral_model.amplitude), source)
    return list(found.values())


def fitted_energies(datasets: Datasets) -> u.Quantity:
    """Edges of the bins in energy that any dataset of counts uses; their axes are aligned."""
    found = [_used_edges(dataset) for dataset in datasets]
    low, high = min(edges[0] for edges in found), max(edges[-1] for edges in found)
    edges = np.concatenate([d.counts.geom.axes["energy"].edges.to_value("TeV") for d in datasets])
    # Aligned axes agree up to rounding.
    values = np.unique(np.round(np.log10(edges), 9), return_index=True)[1]
    edges = np.sort(edges[values]) * u.TeV
    return edges[(edges > low * (1 - 1e-6)) & (edges < high * (1 + 1e-6))]


def _used_edges(dataset: Any) -> u.Quantity:
    edges = dataset.counts.geom.axes["energy"].edges.to("TeV")
    used = np.flatnonzero(fitted_mask(dataset).reshape(len(edges) - 1, -1).any(axis=1))
    return edges[used[0] : used[-1] + 2] if len(used) else edges


def _fitted_range(datasets: Datasets) -> tuple[u.Quantity, u.Quantity]:
    found = []
    for dataset in datasets:
        if not is_points(dataset):
            found.append(_used_edges(dataset))
        else:
            used = fitted_mask(dataset).any(axis=(1, 2))
            found.append(dataset.data.geom.axes["energy"].edges_min[used].to("TeV"))
            found.append(dataset.data.geom.axes["energy"].edges_max[used].to("TeV"))
    return min(edges[0] for edges in found if len(edges)), max(e[-1] for e in found if len(e))


def flux_point_table(
    datasets: Datasets,
    per_decade: int,
    workers: int = 1,
    instruments: Mapping[str, str] | None = None,
) -> tuple[Table | None, dict[str, str]]:
    """Flux points of the datasets with events; None if none are wanted.

    Parameters
    ----------
    datasets : `gammapy.datasets.Datasets`
        The datasets with the fitted models.
    per_decade : int
        About how many; edges are those of the datasets.
    workers : int
        Number of processes.
    instruments : mapping, optional
        Name of each dataset to its instrument.

    Returns
    -------
    table : `~astropy.table.Table` or None
        ``e_ref``, ``e_min``, ``e_max``, ``dnde``, ``dnde_err``, ``dnde_ul``, ``sqrt_ts`` and more,
        as Gammapy writes them; ``part`` says of which, if not all datasets are in all points.
    left_out : dict
        Why points are not of all datasets together, or not there.
    """
    if per_decade == 0:
        return None, {}
    parts, why = _point_parts(datasets, instruments or {})
    tables, left_out = [], dict(why)
    for name, members in parts.items():
        try:
            table = _points(Datasets(members), datasets.models, per_decade, workers)
        except Exception as error:  # noqa: BLE001 points are no reason to lose the fit
            what = f"flux points of {name}" if name else "flux points"
            left_out[what] = f"{type(error).__name__}: {error}"
            continue
        if len(parts) > 1:
            table.add_column([name] * len(table), 0, name="part")
        tables.append(table)
    return (vstack(tables, metadata_conflicts="silent") if tables else None), left_out


def _point_parts(
    datasets: Datasets, instruments: Mapping[str, str]
) -> tuple[dict[str, list[Any]], dict[str, str]]:
    """Datasets whose points are found together, and why these are not all."""
    counted = [dataset for dataset in datasets if not is_points(dataset)]
    spectra = distinct_sources(datasets.models)
    if len(spectra) > 1:
        parts: dict[str, list[Any]] = {}
        for dataset in counted:
            own = source_of(datasets.models, dataset.name).spectral_model.amplitude
            name = next(s.name for s in spectra if s.spectral_model.amplitude is own)
            parts.setdefault(name, []).append(dataset)
        why = "each has a normalisation of its own, so that its points are its own"
    elif len({is_spectrum(dataset) for dataset in counted}) > 1:
        kinds = [_kind(dataset, instruments) for dataset in counted]
        why = "the source has a position in maps, and none in spectra"
        parts = {k: [d for d, n in zip(counted, kinds, strict=True) if n == k] for k in kinds}
    elif not Datasets(counted).energy_axes_are_aligned:
        kinds = [instruments.get(d.name, d.name) for d in counted]
        why = "the energy axes are not aligned; reduce with the same edges, or subsets of them"
        parts = {k: [d for d, n in zip(counted, kinds, strict=True) if n == k] for k in kinds}
    else:
        return ({"": counted} if counted else {}), {}
    # What is still not aligned goes apart.
    apart: dict[str, list[Any]] = {}
    for name, members in parts.items():
        if Datasets(members).energy_axes_are_aligned:
            apart[name] = members
        else:
            apart |= {dataset.name: [dataset] for dataset in members}
    return apart, {"flux points of all together": why} if len(apart) > 1 else {}


def _kind(dataset: Any, instruments: Mapping[str, str]) -> str:
    return f"{instruments.get(dataset.name, '')} {'1d' if is_spectrum(dataset) else '3d'}".strip()


def _points(datasets: Datasets, models: Models, per_decade: int, workers: int) -> Table:
    edges = fitted_energies(datasets)
    decades = float(np.log10(edges[-1] / edges[0]))
    step = max(1, round((len(edges) - 1) / max(1.0, decades * per_decade)))
    chosen = edges[::step]
    if chosen[-1] < edges[-1]:
        # The last point takes the bins that are left.
        chosen = np.append(chosen[: max(1, len(chosen) - 1)], edges[-1])
    copies = with_one_source(datasets, models)
    estimator = FluxPointsEstimator(
        energy_edges=chosen,
        source=SOURCE_NAME,
        selection_optional=["ul"],
        n_jobs=workers,
        allow_multiple_telescopes=True,
    )
    table = estimator.run(copies).to_table(sed_type="dnde", format="gadf-sed")
    # One row per dataset and energy is more than a table of points needs.
    table.remove_columns([n for n in table.colnames if table[n].ndim > 1 or n == "stat_scan"])
    return table


def with_one_source(
    datasets: Datasets, models: Models, backgrounds: Iterable[Any] | None = None
) -> Datasets:
    """Copies of datasets that share a spectrum, with one model of the source.

    Parameters
    ----------
    datasets : `gammapy.datasets.Datasets`
        The datasets, of one kind.
    models : `gammapy.modeling.models.Models`
        The fitted models; those of the background are taken, too, unless others are given.
    backgrounds : iterable of models, optional
        Models of the background.
    """
    copies = FitDatasets([dataset.copy(name=dataset.name) for dataset in datasets])
    of_fit = [m for m in models if m not in sources(models)]
    other = [m.copy() for m in (of_fit if backgrounds is None else backgrounds)]
    source = source_of(models, datasets[0].name)
    one = SkyModel(
        source.spectral_model.copy(),
        None if source.spatial_model is None else source.spatial_model.copy(),
        name=SOURCE_NAME,
    )
    names = set(copies.names)
    copies.models = Models([one, *(m for m in other if names & set(m.datasets_names or names))])
    # Points are multiples of the fit; those of a negative one would have their limits below them.
    amplitude = one.spectral_model.amplitude
    amplitude.value = abs(amplitude.value) or amplitude.error or _SOME_FLUX
    return copies


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
        only bins of the fit, and only datasets of counts.
    """
    tables = []
    for dataset in datasets:
        if is_points(dataset):
            continue
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
        used = fitted_mask(dataset).ravel()
        npred = signal + background
    else:
        geom = dataset.counts.geom
        near = geom.separation(position) < radius
        mask = fitted_mask(dataset) & near
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
        if is_map(dataset):
            mask = dataset.mask
            images[dataset.name] = (
                (dataset.counts * mask).sum_over_axes(keepdims=False),
                (dataset.npred() * mask).sum_over_axes(keepdims=False),
            )
    return images
