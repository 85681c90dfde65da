"""The joint fit of the groups' datasets."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
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
from obscluster.reduction.geometry import is_spectrum
from obscluster.reduction.messages import captured
from obscluster.reduction.models import SOURCE_NAME, set_starting_amplitude, source_model
from obscluster.reduction.result import Reduction, read_reduction
from obscluster.reduction.tables import parameter_table

__all__ = ["JointFit", "fit_datasets", "fit_reduction"]

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

    def __str__(self) -> str:
        lines = [f"{self.config.model}, {len(self.datasets)} datasets, {self.n_bins} bins"]
        for row in self.parameters:
            if not row["frozen"] and row["model"] == SOURCE_NAME:
                unit = f" {u.Unit(row['unit']).to_string('fits')}" if row["unit"] else ""
                lines.append(f"  {row['name']}: {row['value']:.5g} +- {row['error']:.2g}{unit}")
        lines.append(f"  statistic: {self.stat:.2f}, fitted in {self.seconds:.2f} s")
        return join_lines(lines if self.success else [*lines, f"  not converged: {self.message}"])


def fit_datasets(
    datasets: Datasets, config: FitConfig | None = None, position: SkyCoord | None = None
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
        copies = _with_models(datasets, config, position)
        n_bins = int(sum(np.count_nonzero(dataset.mask.data) for dataset in copies))
        if n_bins == 0:
            raise RequestError(
                "no bin of any dataset is within the safe range and the energies of the fit; "
                "widen fit.min and fit.max, or the energy axis"
            )
        n_free = len(copies.models.parameters.free_parameters)
        if n_bins < n_free:
            raise RequestError(
                f"{n_bins} bins cannot tell {n_free} free parameters; widen fit.min and fit.max, "
                "or take a model with fewer"
            )
        set_starting_amplitude(copies)
        start = time.perf_counter()
        _fit_spectrum_first(copies)
        result = Fit().run(copies)
        seconds = time.perf_counter() - start
    return JointFit(
        config,
        copies,
        bool(result.success),
        float(copies.stat_sum()),
        n_bins,
        seconds,
        str(result.message),
        dict(messages),
    )


def _with_models(datasets: Datasets, config: FitConfig, position: SkyCoord | None) -> Datasets:
    """Copies of the datasets, with the source and their background."""
    if not len(datasets):
        raise RequestError("there is no dataset to fit")
    copies, models = [], []
    on_maps = not all(is_spectrum(dataset) for dataset in datasets)
    if on_maps and position is None:
        raise RequestError("a fit on maps needs the position of the source")
    for dataset in datasets:
        copy = dataset.copy(name=dataset.name)
        if config.min is not None or config.max is not None:
            geom = copy.counts.geom
            low, high = (None if e is None else u.Quantity(e) for e in (config.min, config.max))
            copy.mask_fit = geom.energy_mask(energy_min=low, energy_max=high)
        background = _background_model(dataset)
        models += [] if background is None else [background]
        copies.append(copy)
    fitted = Datasets(copies)
    fitted.models = Models([source_model(config, position if on_maps else None), *models])
    return fitted


def _fit_spectrum_first(datasets: Datasets) -> None:
    """Bring a source on maps near the minimum, where position and size can be found."""
    spatial = datasets.models[SOURCE_NAME].spatial_model
    if spatial is None:
        return
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
    if is_spectrum(dataset) or hasattr(dataset, "counts_off") or dataset.background is None:
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
