"""Which energies and offsets of a run are used."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from gammapy.data import Observation
from gammapy.makers import SafeMaskMaker
from numpy.typing import NDArray

from obscluster.features.information.safe_energy import area_threshold_on_axis
from obscluster.reduction.config import ReduceConfig
from obscluster.reduction.off_counts import expected_off

__all__ = ["AreaSafeMaskMaker", "safe_mask_maker"]


class AreaSafeMaskMaker(SafeMaskMaker):
    """Gammapy's maker, which also knows expected counts, and areas above the limit from the start.

    Gammapy uses energies from where the area first crosses the limit. If the axis begins above the
    turn-on, that is where the area falls at its upper end, and nothing is left of the run. The
    crossing is that of Gammapy's interpolation, in closed form.

    Parameters
    ----------
    min_counts : float
        With the method "counts": OFF counts that are expected at least in a bin that is used, see
        `~obscluster.reduction.off_counts.expected_off`.
    **kwargs
        As `gammapy.makers.SafeMaskMaker`.
    """

    available_methods = SafeMaskMaker.available_methods | {"counts"}

    def __init__(self, min_counts: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.min_counts = min_counts

    def run(self, dataset: Any, observation: Observation | None = None) -> Any:
        """The dataset with its safe mask.

        Parameters
        ----------
        dataset, observation
            The run.
        """
        dataset = super().run(dataset, observation)
        if "counts" in self.methods:
            expected = expected_off(dataset.counts_off.data.ravel())
            dataset.mask_safe.data &= (expected >= self.min_counts).reshape(
                dataset.counts.data.shape
            )
        return dataset

    def make_mask_energy_aeff_max(
        self, dataset: Any, observation: Observation | None = None
    ) -> NDArray[np.bool_]:
        """Mask of energies where the area is above a fraction of its maximum.

        Parameters
        ----------
        dataset : `gammapy.datasets.MapDataset` or `gammapy.datasets.SpectrumDataset`
            The run.
        observation : `gammapy.data.Observation`, optional
            The same, not used.
        """
        area = dataset.exposure.get_spectrum(self.position)
        values = area.data.ravel()
        if not (values > 0).any():
            # The way to say so.
            return super().make_mask_energy_aeff_max(dataset, observation)
        energies = area.geom.axes["energy_true"].center
        part = self.aeff_percent / 100
        energy_min = area_threshold_on_axis(energies.to_value("TeV"), values, part) * u.TeV
        return dataset.counts.geom.energy_mask(energy_min=energy_min)


def safe_mask_maker(config: ReduceConfig, position: SkyCoord) -> AreaSafeMaskMaker:
    """Maker of the mask that is asked for.

    Parameters
    ----------
    config : `~obscluster.reduction.config.ReduceConfig`
        What to do.
    position : `~astropy.coordinates.SkyCoord`
        The target, where the response is looked at.
    """
    asked = config.safe_mask
    return AreaSafeMaskMaker(
        methods=list(config.safe_methods),
        min_counts=asked.min_counts,
        aeff_percent=asked.aeff_percent,
        bias_percent=asked.bias_percent,
        offset_max=u.Quantity(asked.offset_max),
        position=position,
    )
