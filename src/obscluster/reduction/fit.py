"""The joint fit of the groups' datasets, and its result in tables."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable, Table, vstack
from gammapy.datasets import Datasets
from gammapy.estimators import FluxPointsEstimator
from gammapy.maps import Map
from gammapy.modeling import Fit, Parameter
from gammapy.modeling.models import FoVBackgroundModel, Models, SkyModel
from gammapy.stats import CashCountsStatistic, WStatCountsStatistic
from numpy.typing import NDArray

from obscluster.config.reduction import FitConfig, make_reduce_config
from obscluster.exceptions import RequestError, join_lines
from obscluster.reduction.geometry import fitted_mask, has_off, is_map, is_points, is_spectrum
from obscluster.reduction.messages import captured
from obscluster.reduction.models import (
    SOURCE_NAME,
    FitDatasets,
    set_starting_amplitude,
    source_models,
    source_of,
    sources,
)
from obscluster.reduction.result import Reduction, read_reduction

__all__ = [
    "JointFit",
    "counts_images",
    "distinct_sources",
    "fit_datasets",
    "fit_reduction",
    "fitted_energies",
    "flux_point_table",
    "instruments_of",
    "parameter_table",
    "parameter_text",
    "residual_table",
    "run_fit",
    "set_range",
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


_TOLD = ("name", "value", "error")
# In deg, and no round numbers: see `_scan_size`.
_SIZES = tuple(np.geomspace(0.0237, 0.647, 8).tolist())


@dataclass(frozen=True, eq=False)
class JointFit:
    """A fit of several datasets with one source.

    Parameters
    ----------
    config : `~obscluster.config.reduction.FitConfig`
        What was fitted.
    datasets : `gammapy.datasets.Datasets`
        The datasets with the fitted models.
    success : bool
        Whether minimum and errors were found.
    stat : float
        Fit statistic, -2 log of the likelihood, at the minimum.
    n_bins : int
        Number of bins in the fit.
    seconds : float
        Time of the fit.
    message : str
        What the minimiser says.
    messages : mapping
        What else Gammapy said, and how often.
    """

    config: FitConfig
    datasets: Datasets
    success: bool
    stat: float
    n_bins: int
    seconds: float
    message: str = ""
    messages: Mapping[str, int] = field(default_factory=dict)

    @property
    def models(self) -> Models:
        """The fitted models."""
        return self.datasets.models

    @property
    def parameters(self) -> Table:
        """Parameters of all models with their errors, see `parameter_table`."""
        return parameter_table(self.models)

    @property
    def covariance(self) -> NDArray[np.float64]:
        """Covariance of all parameters, in the order of the table; zero for the frozen ones."""
        return np.array(self.models.covariance.data)

    @property
    def n_free(self) -> int:
        """Number of free parameters; one that models share counts once."""
        return len(self.models.parameters.free_unique_parameters)

    def __str__(self) -> str:
        lines = [f"{self.config.model}, {len(self.datasets)} datasets, {self.n_bins} bins"]
        names = [model.name for model in sources(self.models)]
        rows = [r for r in self.parameters if not r["frozen"] and r["model"] in names]
        shown: set[tuple[Any, ...]] = set()
        for row in rows:
            text = parameter_text(*(row[n] for n in ("name", "value", "error", "unit")))
            if len(names) > 1:
                same = [r["model"] for r in rows if all(r[n] == row[n] for n in _TOLD)]
                if (*same, text) in shown:
                    continue
                shown.add((*same, text))
                text += "" if len(same) == len(names) else f" ({', '.join(same)})"
            lines.append(f"  {text}")
        lines.append(f"  statistic: {self.stat:.2f}, fitted in {self.seconds:.2f} s")
        return join_lines(lines if self.success else [*lines, f"  not converged: {self.message}"])


def parameter_text(name: str, value: float, error: float, unit: str) -> str:
    """A parameter as one reads it."""
    unit = f" {u.Unit(unit).to_string('fits')}" if unit else ""
    return f"{name}: {value:.5g} +- {error:.2g}{unit}"


def fit_datasets(
    datasets: Datasets,
    config: FitConfig | None = None,
    position: SkyCoord | None = None,
    instruments: Mapping[str, str] | None = None,
) -> JointFit:
    """Fit one source to datasets together.

    Parameters
    ----------
    datasets : `gammapy.datasets.Datasets`
        The datasets; they are left as they are. Models of their background are kept, and made
        where a map has none.
    config : `~obscluster.config.reduction.FitConfig`, optional
        What to fit.
    position : `~astropy.coordinates.SkyCoord`, optional
        Where the source is; maps need it.
    instruments : mapping, optional
        Name of each dataset to its instrument; what the datasets say themselves unless told.

    Returns
    -------
    fit : `JointFit`
        The result; whether it converged is in it.

    Raises
    ------
    RequestError
        If there is nothing to fit.
    """
    config = FitConfig() if config is None else config
    with captured() as messages:
        copies = _with_models(datasets, config, position, instruments or instruments_of(datasets))
        n_bins = int(sum(np.count_nonzero(fitted_mask(dataset)) for dataset in copies))
        if n_bins == 0:
            raise RequestError(
                "no bin of any dataset is within the safe range and the energies of the fit; "
                "widen fit.min and fit.max, or the energy axis"
            )
        n_free = len(copies.models.parameters.free_unique_parameters)
        if n_bins < n_free:
            raise RequestError(
                f"{n_bins} bins cannot tell {n_free} free parameters; widen fit.min and fit.max, "
                "or take a model with fewer"
            )
        set_starting_amplitude(copies)
        start = time.perf_counter()
        _fit_spectrum_first(copies)
        fit = run_fit(config, copies, messages)
    return replace(fit, seconds=time.perf_counter() - start, messages=dict(messages))


def run_fit(config: FitConfig, datasets: Datasets, messages: Mapping[str, int]) -> JointFit:
    """Fit datasets with their models, from where these are."""
    n_bins = int(sum(np.count_nonzero(fitted_mask(dataset)) for dataset in datasets))
    start = time.perf_counter()
    result = Fit().run(datasets)
    stat, seconds = float(datasets.stat_sum()), time.perf_counter() - start
    # Only a finite minimum is one.
    success = bool(result.success) and bool(np.isfinite(stat))
    text = str(result.message)
    return JointFit(config, datasets, success, stat, n_bins, seconds, text, dict(messages))


def instruments_of(datasets: Datasets) -> dict[str, str]:
    """Name of each dataset to its telescope, as far as it says."""
    found = {}
    for dataset in datasets:
        table = dataset.meta_table
        known = [] if table is None or "TELESCOP" not in table.colnames else table["TELESCOP"]
        names = sorted({str(name).strip() for name in np.ravel(known)})
        found[dataset.name] = "+".join(filter(None, names)) or "unknown"
    return found


def set_range(dataset: Any, low: str | None, high: str | None) -> None:
    """Fit a dataset in a range of energies only."""
    if low is None and high is None:
        return
    edges = [None if e is None else u.Quantity(e) for e in (low, high)]
    if is_points(dataset):
        energy = dataset.data.energy_ref
        inside = np.ones(len(energy), dtype=bool)
        inside &= True if edges[0] is None else energy >= edges[0]
        inside &= True if edges[1] is None else energy <= edges[1]
        dataset.mask_fit = np.broadcast_to(inside[:, None, None], dataset.data.dnde.data.shape)
    else:
        dataset.mask_fit = dataset.counts.geom.energy_mask(*edges)


def _with_models(
    datasets: Datasets,
    config: FitConfig,
    position: SkyCoord | None,
    instruments: Mapping[str, str],
) -> Datasets:
    """Copies of the datasets, with the source and their background."""
    if not len(datasets):
        raise RequestError("there is no dataset to fit")
    if position is None and any(is_map(dataset) for dataset in datasets):
        raise RequestError("a fit on maps needs the position of the source")
    copies, models = [], []
    for dataset in datasets:
        copy = dataset.copy(name=dataset.name)
        set_range(copy, config.min, config.max)
        background = _background_model(dataset)
        models += [] if background is None else [background]
        copies.append(copy)
    fitted = FitDatasets(copies)
    fitted.models = Models([*source_models(config, position, copies, instruments), *models])
    return fitted


def _fit_spectrum_first(datasets: Datasets) -> None:
    """Bring a source on maps near the minimum, where position and size can be found."""
    found = [m.spatial_model for m in sources(datasets.models) if m.spatial_model is not None]
    if not found:
        return
    spatial = found[0]
    if "sigma" in spatial.parameters.names:
        _scan_size(datasets, spatial.sigma)
    with datasets.models.restore_status(restore_values=False):
        spatial.freeze()
        Fit().optimize(datasets)


def _scan_size(datasets: Datasets, sigma: Parameter) -> None:
    """Set the size to the best of a few.

    Gammapy's prediction jumps where the size is a fraction of the pixels, by a small amount that
    is a wall to a minimiser that begins there.
    """
    stats = {}
    for size in _SIZES:
        sigma.value = size
        set_starting_amplitude(datasets)
        stats[size] = datasets.stat_sum()
    sigma.value = min(stats, key=lambda size: stats[size])
    set_starting_amplitude(datasets)


def _background_model(dataset: Any) -> FoVBackgroundModel | None:
    if not is_map(dataset) or has_off(dataset) or dataset.background is None:
        return None
    model = FoVBackgroundModel(dataset_name=dataset.name)
    if dataset.background_model is not None:
        for parameter in dataset.background_model.parameters:
            model.parameters[parameter.name].value = parameter.value
    return model


def fit_reduction(
    directory: str | os.PathLike[str] | Reduction, config: FitConfig | None = None
) -> tuple[Reduction, JointFit]:
    """Fit the groups that `obscluster.reduction.reduce_groups` has written.

    Parameters
    ----------
    directory : str, path or `~obscluster.reduction.result.Reduction`
        Where they are.
    config : `~obscluster.config.reduction.FitConfig`, optional
        What to fit; as described when the groups were reduced unless told.

    Raises
    ------
    ArchiveError
        If the directory does not hold a reduction.
    RequestError
        If there is nothing to fit.
    """
    reduction = directory if isinstance(directory, Reduction) else read_reduction(directory)
    if config is None:
        config = make_reduce_config(reduction.record["config"]).fit
    return reduction, fit_datasets(reduction.read(), config, reduction.position)
