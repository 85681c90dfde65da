"""The joint fit of the groups' datasets."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table
from gammapy.datasets import Datasets
from gammapy.modeling import Fit, Parameter
from gammapy.modeling.models import FoVBackgroundModel, Models
from numpy.typing import NDArray

from obscluster.exceptions import RequestError
from obscluster.printable import join_lines
from obscluster.reduction.config import FitConfig, make_reduce_config
from obscluster.reduction.geometry import fitted_mask, has_off, is_map, is_points
from obscluster.reduction.messages import captured
from obscluster.reduction.models import FitDatasets, set_starting_amplitude, source_models, sources
from obscluster.reduction.result import Reduction, read_reduction
from obscluster.reduction.tables import parameter_table

__all__ = [
    "JointFit",
    "fit_datasets",
    "fit_reduction",
    "instruments_of",
    "parameter_text",
    "run_fit",
    "set_range",
]

_TOLD = ("name", "value", "error")
# In deg, and no round numbers: see `_scan_size`.
_SIZES = tuple(np.geomspace(0.0237, 0.647, 8).tolist())


@dataclass(frozen=True, eq=False)
class JointFit:
    """A fit of several datasets with one source.

    Parameters
    ----------
    config : `~obscluster.reduction.config.FitConfig`
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
    config : `~obscluster.reduction.config.FitConfig`, optional
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
    config : `~obscluster.reduction.config.FitConfig`, optional
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
