"""Models of the source and the background, from their description."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from gammapy.datasets import Datasets
from gammapy.modeling.models import (
    ExpCutoffPowerLawSpectralModel,
    FoVBackgroundModel,
    GaussianSpatialModel,
    LogParabolaSpectralModel,
    Models,
    PointSpatialModel,
    PowerLawSpectralModel,
    SkyModel,
    SpectralModel,
)

from obscluster.config.reduction import FitConfig, ReduceConfig
from obscluster.reduction.geometry import fitted_mask, has_off, is_map, is_points

__all__ = [
    "SOURCE_NAME",
    "FitDatasets",
    "set_starting_amplitude",
    "source_model",
    "source_models",
    "source_of",
    "sources",
    "starting_models",
]

SOURCE_NAME = "source"
_AMPLITUDE = 1e-12 * u.Unit("cm-2 s-1 TeV-1")
_INDEX = 2.5
# How far from the target a source may be, in deg.
_POSITION_RANGE = 0.5


class FitDatasets(Datasets):
    """Datasets whose models have no priors, as ours.

    Gammapy's gather the models and their covariance anew for each look at the statistic, which
    takes longer than the statistic itself.
    """

    def stat_sum(self) -> float:
        """Sum of the statistics of the datasets."""
        return float(sum(dataset.stat_sum() for dataset in self))


def spectral_model(config: FitConfig) -> SpectralModel:
    """Spectrum with usual values of its parameters."""
    reference = u.Quantity(config.reference)
    if config.model == "log-parabola":
        return LogParabolaSpectralModel(
            amplitude=_AMPLITUDE, reference=reference, alpha=_INDEX, beta=0.05
        )
    if config.model == "cutoff-power-law":
        return ExpCutoffPowerLawSpectralModel(
            amplitude=_AMPLITUDE, reference=reference, index=_INDEX, lambda_="0.05 TeV-1"
        )
    return PowerLawSpectralModel(amplitude=_AMPLITUDE, reference=reference, index=_INDEX)


def source_model(config: FitConfig, position: SkyCoord | None) -> SkyModel:
    """Source with its spectrum, and where it is.

    Parameters
    ----------
    config : `~obscluster.config.reduction.FitConfig`
        What is fitted.
    position : `~astropy.coordinates.SkyCoord` or None
        The target, for maps; None for spectra in a region.
    """
    spatial: Any = None
    if position is not None:
        where = {"lon_0": position.icrs.ra, "lat_0": position.icrs.dec, "frame": "icrs"}
        if config.spatial == "gaussian":
            spatial = GaussianSpatialModel(sigma="0.05 deg", **where)
            spatial.sigma.min = 0
        else:
            spatial = PointSpatialModel(**where)
        # A fit that begins far from the minimum must not lose the source.
        stretch = 1 / max(float(np.cos(position.icrs.dec.rad)), 0.01)
        for parameter, width in (
            (spatial.lon_0, _POSITION_RANGE * stretch),
            (spatial.lat_0, _POSITION_RANGE),
        ):
            parameter.frozen = not config.free_position
            parameter.min, parameter.max = parameter.value - width, parameter.value + width
    return SkyModel(spectral_model(config), spatial, name=SOURCE_NAME)


def sources(models: Models) -> list[SkyModel]:
    """The models of the source: one, or those of its parts, which share parameters."""
    return [model for model in models if isinstance(model, SkyModel)]


def source_of(models: Models, dataset: str) -> SkyModel:
    """The model of the source in a dataset."""
    return next(m for m in sources(models) if not m.datasets_names or dataset in m.datasets_names)


def source_models(
    config: FitConfig, position: SkyCoord | None, datasets: Any, instruments: Mapping[str, str]
) -> list[SkyModel]:
    """The source as it is fitted to each dataset.

    Parameters
    ----------
    config : `~obscluster.config.reduction.FitConfig`
        What is fitted; whether groups or instruments have parameters of their own.
    position : `~astropy.coordinates.SkyCoord` or None
        The target, for maps.
    datasets : `gammapy.datasets.Datasets`
        The datasets.
    instruments : mapping
        Name of each dataset to its instrument.

    Returns
    -------
    models : list of `gammapy.modeling.models.SkyModel`
        One model for all datasets, or several that share their other parameters. In maps the
        source has a position, in spectra and flux points it has none.
    """
    of: dict[tuple[str, bool], list[str]] = {}
    for dataset in datasets:
        owner = ""
        if "per-group" in (config.normalisation, config.parameters):
            owner = dataset.name
        elif config.normalisation == "per-instrument":
            owner = instruments[dataset.name]
        on_map = is_map(dataset)
        of.setdefault((owner, on_map), []).append(dataset.name)
    mixed = len({on_map for _, on_map in of}) > 1
    models: list[SkyModel] = []
    spectra: dict[str, SpectralModel] = {}
    spatial: Any = None
    for (owner, on_map), names in of.items():
        model = source_model(config, position if on_map else None)
        if owner not in spectra:
            if spectra and config.parameters == "shared":
                _share(model.spectral_model, next(iter(spectra.values())), but=("amplitude",))
            spectra[owner] = model.spectral_model
        place = None
        if on_map:
            spatial = place = spatial or model.spatial_model
        name = "-".join([SOURCE_NAME, *filter(None, [owner, "1d" if mixed and not on_map else ""])])
        where = None if len(of) == 1 else names
        models.append(SkyModel(spectra[owner], place, name=name, datasets_names=where))
    return models


def _share(model: SpectralModel, other: SpectralModel, but: tuple[str, ...]) -> None:
    """Take the parameters of another model."""
    for name in model.parameters.names:
        if name not in but:
            setattr(model, name, getattr(other, name))


def starting_models(
    config: ReduceConfig, position: SkyCoord, names: Iterable[str], fit: FitConfig | None = None
) -> Models:
    """Models to begin a fit with: the source, and in 3D the background of each dataset.

    Parameters
    ----------
    config : `~obscluster.config.reduction.ReduceConfig`
        How the datasets were made.
    position : `~astropy.coordinates.SkyCoord`
        The target.
    names : iterable of str
        Names of the datasets.
    fit : `~obscluster.config.reduction.FitConfig`, optional
        What is fitted; that of the configuration unless told.
    """
    fit = config.fit if fit is None else fit
    if config.kind == "1d":
        return Models([source_model(fit, None)])
    background = [FoVBackgroundModel(dataset_name=name) for name in names]
    return Models([source_model(fit, position), *background])


def set_starting_amplitude(datasets: Any) -> None:
    """Scale the amplitudes of the source such that they predict the excess counts.

    Parameters
    ----------
    datasets : `gammapy.datasets.Datasets`
        The datasets, with models.
    """
    sums: dict[int, list[float]] = {}
    amplitudes = {}
    for dataset in datasets:
        amplitude = source_of(datasets.models, dataset.name).spectral_model.amplitude
        amplitudes[id(amplitude)] = amplitude
        found = sums.setdefault(id(amplitude), [0.0, 0.0])
        for i, value in enumerate(_excess(dataset)):
            found[i] += value
    for key, (excess, predicted) in sums.items():
        if excess > 0 and predicted > 0 and np.isfinite(excess / predicted):
            amplitudes[key].value *= excess / predicted


def _excess(dataset: Any) -> tuple[float, float]:
    """Excess counts, and those that are predicted."""
    mask = fitted_mask(dataset)
    if is_points(dataset):
        # In place of counts: how many sigma a point is above zero.
        error = dataset.data.dnde_err.quantity[mask]
        flux, predicted = dataset.data.dnde.quantity[mask], dataset.flux_pred()[mask]
        return tuple(float((x / error).to_value("").sum()) for x in (flux, predicted))  # type: ignore[return-value]
    signal = dataset.npred_signal().data
    # Far from the source the excess says nothing.
    near = mask & (signal > 1e-3 * signal.max(initial=0))
    if has_off(dataset):
        excess = float(dataset.excess.data[near].sum())
    else:
        background = dataset.npred_background().data
        excess = float((dataset.counts.data - background)[near].sum())
    return excess, float(signal[near].sum())
