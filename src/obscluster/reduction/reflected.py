"""OFF counts in reflected regions, as Gammapy finds and counts them, in a fraction of the time.

Gammapy takes every region to pixels and back by itself, each time by way of objects for the sky,
and takes all events to pixels once per region. For circles all of that is arithmetic on arrays.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from astropy import units as u
from astropy.coordinates import Angle, SkyCoord
from gammapy.data import Observation
from gammapy.datasets import SpectrumDataset
from gammapy.makers import ReflectedRegionsBackgroundMaker, ReflectedRegionsFinder
from gammapy.maps import Map, RegionGeom, RegionNDMap, WcsGeom
from numpy.typing import NDArray
from regions import (  # type: ignore[import-untyped]
    CirclePixelRegion,
    CircleSkyRegion,
    PixCoord,
)

__all__ = ["ReflectedCirclesFinder", "ReflectedCirclesMaker"]

# What Gammapy adds to the width of the map, for regions that are close to the pointing.
_MARGIN = 0.3 * u.deg


class Circles(NamedTuple):
    """Circles of one radius, in pixels of a projection."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    radius: float
    wcs: Any

    def to_sky(self) -> list[CircleSkyRegion]:
        """The circles on the sky; their radii differ by the scale of the projection."""
        if not len(self.x):
            return []
        centers = self.wcs.pixel_to_world(self.x, self.y)
        x, y = self.wcs.world_to_pixel(centers)
        # The scale along the meridian, as the package of the regions has it.
        step = 1 * u.arcsec
        x_north, y_north = self.wcs.world_to_pixel(centers.directional_offset_by(0.0, step))
        radii = Angle(self.radius * step / np.hypot(x_north - x, y_north - y))
        return [CircleSkyRegion(*circle) for circle in zip(centers, radii, strict=True)]

    def contain(self, position: SkyCoord) -> NDArray[np.bool_]:
        """Whether positions are in any of them, shape as of the positions."""
        x, y = self.wcs.world_to_pixel(position)
        inside = np.zeros(position.shape, dtype=bool)
        for x_center, y_center in zip(self.x, self.y, strict=True):
            inside |= np.hypot(x - x_center, y - y_center) < self.radius
        return inside


class ReflectedCirclesFinder(ReflectedRegionsFinder):
    """Gammapy's finder, faster for circles; other shapes are left to it."""

    def run(
        self, region: Any, center: SkyCoord, exclusion_mask: Map | None = None
    ) -> tuple[list[Any], Any]:
        """Find reflected regions.

        Parameters
        ----------
        region : `regions.SkyRegion`
            The region.
        center : `~astropy.coordinates.SkyCoord`
            The pointing, around which it is turned.
        exclusion_mask : `gammapy.maps.WcsNDMap`, optional
            False where no region may be.

        Returns
        -------
        regions : list of `regions.SkyRegion`
            The regions found.
        wcs : `~astropy.wcs.WCS`
            Projection in which they are of one size.
        """
        if type(region) is not CircleSkyRegion:
            return super().run(region, center, exclusion_mask)
        circles = self.circles(region, center, exclusion_mask)
        return circles.to_sky(), circles.wcs

    def circles(
        self, region: CircleSkyRegion, center: SkyCoord, exclusion_mask: Map | None = None
    ) -> Circles:
        """As `run`, the regions in pixels."""
        geom = WcsGeom.create(
            skydir=center,
            binsz=self.binsz,
            width=4 * region.center.separation(center) + _MARGIN,
            frame=region.center.frame.name,
            proj="TAN",
        )
        circle = region.to_pixel(geom.wcs)
        pivot = PixCoord.from_sky(center, geom.wcs)
        excluded = None
        if exclusion_mask is not None:
            kept = exclusion_mask.interp_to_geom(geom, fill_value=True)
            excluded = PixCoord(*np.nonzero(~kept.data)[::-1])
        first = self.min_distance_input.to_value("rad")
        step = _angular_size(circle, pivot, geom) + self.min_distance.to_value("rad")
        last, angle = 2 * np.pi - step - first, step + first
        found: list[tuple[float, float]] = []
        while angle < last and len(found) < self.max_region_number:
            turned = circle.rotate(pivot, angle)
            if excluded is None or not turned.contains(excluded).any():
                found.append((turned.center.x, turned.center.y))
                angle += step
            else:
                angle += self.angle_increment.to_value("rad")
        x_found, y_found = np.reshape(found, (-1, 2)).T
        return Circles(x_found, y_found, circle.radius, geom.wcs)


def _angular_size(circle: CirclePixelRegion, pivot: PixCoord, geom: WcsGeom) -> float:
    """Angle under which the pixels of a circle are seen, in radians.

    Raises
    ------
    ValueError
        If it holds no pixel.
    """
    box, (n_y, n_x) = circle.bounding_box, geom.data_shape
    y, x = np.mgrid[
        max(box.iymin, 0) : min(box.iymax, n_y), max(box.ixmin, 0) : min(box.ixmax, n_x)
    ]
    inside = circle.contains(PixCoord(x, y))
    angles = np.arctan2(pivot.x - x[inside], pivot.y - y[inside])
    size = angles.max() - angles.min()
    if size > np.pi:
        angles = np.where(angles >= 0, angles - 2 * np.pi, angles)
        size = angles.max() - angles.min()
    return float(size)


class ReflectedCirclesMaker(ReflectedRegionsBackgroundMaker):
    """Gammapy's maker, faster for a `ReflectedCirclesFinder` and a circle."""

    def make_counts_off(
        self, dataset: SpectrumDataset, observation: Observation
    ) -> tuple[RegionNDMap | None, RegionNDMap]:
        """Counts and acceptance of the OFF regions.

        Parameters
        ----------
        dataset : `gammapy.datasets.SpectrumDataset`
            The spectrum.
        observation : `gammapy.data.Observation`
            The run.
        """
        geom = dataset.counts.geom
        if type(geom.region) is not CircleSkyRegion:
            return super().make_counts_off(dataset, observation)
        center = observation.get_pointing_icrs(observation.tmid)
        circles = self.region_finder.circles(geom.region, center, self.exclusion_mask)
        if not len(circles.x):
            # The way to say that there are none.
            return super().make_counts_off(dataset, observation)
        energy, events = geom.axes["energy"], observation.events
        geom = RegionGeom.from_regions(circles.to_sky(), axes=[energy], wcs=circles.wcs)
        bins = energy.coord_to_idx(events.energy[circles.contain(events.radec)])
        counts = RegionNDMap.from_geom(geom)
        counts.data[:, 0, 0] = np.bincount(bins[bins >= 0], minlength=energy.nbin)
        return counts, RegionNDMap.from_geom(geom, data=len(circles.x))
