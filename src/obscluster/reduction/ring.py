"""OFF counts in a ring around the source region, for spectra.

Gammapy has rings for maps alone. There every pixel has a ring of its own, and the rings of the
pixels of a region overlap, so that adding them up would count the same events many times. One
ring for the whole region does not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy import units as u
from gammapy.data import Observation
from gammapy.datasets import MapDataset, SpectrumDataset, SpectrumDatasetOnOff
from gammapy.makers import MapDatasetMaker
from gammapy.maps import Map, RegionNDMap, WcsGeom

from obscluster.exceptions import RequestError
from obscluster.reduction.geometry import is_point, ring_region

__all__ = ["RingRegionBackgroundMaker"]

_BINSZ = 0.01


class RingRegionBackgroundMaker:
    """Background of a region from a ring around it, as Gammapy's makers are used.

    The acceptances of region and ring are what the background response predicts in them.

    Parameters
    ----------
    radius : `~astropy.units.Quantity`
        Inner radius.
    width : `~astropy.units.Quantity`
        Width of the ring.
    exclusion_mask : `gammapy.maps.Map`, optional
        False where the ring must not count.
    """

    def __init__(self, radius: u.Quantity, width: u.Quantity, exclusion_mask: Map | None = None):
        self.radius = radius
        self.width = width
        self.exclusion_mask = exclusion_mask

    def run(self, dataset: SpectrumDataset, observation: Observation) -> SpectrumDatasetOnOff:
        """Spectrum with OFF counts.

        Parameters
        ----------
        dataset : `gammapy.datasets.SpectrumDataset`
            The spectrum.
        observation : `gammapy.data.Observation`
            The run.

        Raises
        ------
        RequestError
            If the run has no background response, no fixed region, or the ring is covered.
        """
        geom = dataset.counts.geom
        if observation.bkg is None:
            raise RequestError(
                "a ring needs the background response, which the run has not; set "
                "background.method: reflected"
            )
        if is_point(geom.region):
            raise RequestError(
                "a ring needs a region of one size, and the cut depends on energy; set "
                "background.method: wobble"
            )
        around = WcsGeom.create(
            skydir=geom.center_skydir,
            width=(2.1 * (self.radius + self.width)).to_value("deg"),
            binsz=_BINSZ,
            frame="icrs",
            proj="TAN",
        )
        ring = ring_region(geom.center_skydir, self.radius, self.width)
        outside = around.region_mask([ring]).data & ~around.region_mask([geom.region]).data
        if self.exclusion_mask is not None:
            kept = self.exclusion_mask.interp_to_geom(around, fill_value=True, method="nearest")
            outside &= kept.data.astype(bool)
        cube = MapDataset.create(around.to_cube([geom.axes["energy"]]), name="ring")
        maker = MapDatasetMaker(selection=["counts", "background"])
        cube = maker.run(cube, observation)
        inside = around.region_mask([geom.region]).data
        expected = [_sum(cube.background, mask) for mask in (inside, outside)]
        if not expected[1].any():
            raise RequestError("the exclusion mask, or the edge of the camera, covers the ring")
        # Where the response predicts nothing in the ring there is no OFF measurement.
        usable = (expected[0] > 0) & (expected[1] > 0)
        counts_off = np.where(usable, _sum(cube.counts, outside), 0)
        acceptance_off = np.where(usable, expected[1] / np.where(usable, expected[0], 1), 0)

        def as_map(values: Any) -> RegionNDMap:
            return RegionNDMap.from_geom(geom, data=values.reshape(geom.data_shape))

        return SpectrumDatasetOnOff.from_spectrum_dataset(
            dataset=dataset,
            acceptance=RegionNDMap.from_geom(geom, data=1.0),
            acceptance_off=as_map(acceptance_off),
            counts_off=as_map(counts_off),
            name=dataset.name,
        )


def _sum(cube: Map, mask: Any) -> Any:
    """Sum over the pixels of an image mask, shape (n_energies,)."""
    return np.nansum(np.where(mask, cube.data, 0), axis=(1, 2))
