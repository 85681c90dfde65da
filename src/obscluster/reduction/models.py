"""Models of the source and the background, from their description."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
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

from obscluster.reduction.config import FitConfig, ReduceConfig

__all__ = ["SOURCE_NAME", "set_starting_amplitude", "source_model", "starting_models"]

SOURCE_NAME = "source"
_AMPLITUDE = 1e-12 * u.Unit("cm-2 s-1 TeV-1")
_INDEX = 2.5
# How far from the target a source may be, in deg.
_POSITION_RANGE = 0.5


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
    config : `~obscluster.reduction.config.FitConfig`
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


def starting_models(
    config: ReduceConfig, position: SkyCoord, names: Iterable[str], fit: FitConfig | None = None
) -> Models:
    """Models to begin a fit with: the source, and in 3D the background of each dataset.

    Parameters
    ----------
    config : `~obscluster.reduction.config.ReduceConfig`
        How the datasets were made.
    position : `~astropy.coordinates.SkyCoord`
        The target.
    names : iterable of str
        Names of the datasets.
    fit : `~obscluster.reduction.config.FitConfig`, optional
        What is fitted; that of the configuration unless told.
    """
    fit = config.fit if fit is None else fit
    if config.kind == "1d":
        return Models([source_model(fit, None)])
    background = [FoVBackgroundModel(dataset_name=name) for name in names]
    return Models([source_model(fit, position), *background])


def set_starting_amplitude(datasets: Any) -> None:
    """Scale the amplitude of the source such that it predicts the excess counts.

    Parameters
    ----------
    datasets : `gammapy.datasets.Datasets`
        The datasets, with models.
    """
    excess = predicted = 0.0
    for dataset in datasets:
        mask = dataset.mask.data
        signal = dataset.npred_signal().data
        # Far from the source the excess says nothing.
        near = mask & (signal > 1e-3 * signal.max(initial=0))
        if hasattr(dataset, "counts_off"):
            excess += float(dataset.excess.data[near].sum())
        else:
            background = dataset.npred_background().data
            excess += float((dataset.counts.data - background)[near].sum())
        predicted += float(signal[near].sum())
    if excess > 0 and predicted > 0 and np.isfinite(excess / predicted):
        amplitude = datasets.models[SOURCE_NAME].spectral_model.amplitude
        amplitude.value *= excess / predicted
