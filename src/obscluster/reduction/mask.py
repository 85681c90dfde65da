"""Which energies and offsets of a run are used."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from gammapy.data import Observation
from gammapy.makers import SafeMaskMaker
from numpy.typing import NDArray

from obscluster.reduction.config import ReduceConfig

__all__ = ["AreaSafeMaskMaker", "safe_mask_maker"]


class AreaSafeMaskMaker(SafeMaskMaker):
    """Gammapy's maker, which also knows runs whose area is above the limit from the beginning.

    Gammapy uses energies from where the area first crosses the limit. If the axis begins above the
    turn-on, that is where the area falls at its upper end, and nothing is left of the run.
    """

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
        seen = np.flatnonzero(values > 0)
        if len(seen) and values[seen[0]] >= self.aeff_percent / 100 * values.max():
            energy_min = area.geom.axes["energy_true"].center[seen[0]]
            return dataset.counts.geom.energy_mask(energy_min=energy_min)
        return super().make_mask_energy_aeff_max(dataset, observation)


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
        aeff_percent=asked.aeff_percent,
        bias_percent=asked.bias_percent,
        offset_max=u.Quantity(asked.offset_max),
        position=position,
    )
