"""Which energies and offsets of a run are used."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from gammapy.data import Observation
from gammapy.makers import SafeMaskMaker
from gammapy.maps import RegionNDMap
from gammapy.modeling.models import TemplateSpectralModel
from numpy.typing import NDArray
from scipy.optimize import brentq

from obscluster.reduction.config import ReduceConfig

__all__ = ["AreaSafeMaskMaker", "safe_mask_maker"]

# Intervals of energy among which Gammapy looks for a crossing.
_N_SCANNED = 100


class AreaSafeMaskMaker(SafeMaskMaker):
    """Gammapy's maker, which also knows runs whose area is above the limit from the beginning.

    Gammapy uses energies from where the area first crosses the limit. If the axis begins above the
    turn-on, that is where the area falls at its upper end, and nothing is left of the run. The
    crossing is looked for at the same energies as there, but at all of them at once.
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
        if not len(seen):
            # The way to say so.
            return super().make_mask_energy_aeff_max(dataset, observation)
        energy_min = area.geom.axes["energy_true"].center[seen[0]]
        if values[seen[0]] < self.aeff_percent / 100 * values.max():
            energy_min = _first_crossing(area, energy_min, self.aeff_percent / 100)
        return dataset.counts.geom.energy_mask(energy_min=energy_min)


def _first_crossing(area: RegionNDMap, energy_min: u.Quantity, part: float) -> u.Quantity:
    """Where an area first crosses a part of its maximum; the lowest energy if it never does."""
    model = TemplateSpectralModel.from_region_map(area)
    limit = part * model.values.max()

    def above(energy: Any) -> Any:
        return (model(u.Quantity(energy, "TeV")) / limit).to_value("") - 1

    first, last = (float(energy.to_value("TeV")) for energy in (energy_min, model.energy[-1]))
    energies = np.geomspace(first, last, _N_SCANNED + 1)
    signs = np.sign(above(energies))
    crossed = np.flatnonzero(signs[:-1] != signs[1:])
    if not len(crossed):
        return energy_min
    return brentq(above, *energies[crossed[0] :][:2]) * u.TeV


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
