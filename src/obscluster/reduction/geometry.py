"""Regions, axes, empty datasets and exclusion masks, from their description."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from gammapy.datasets import FluxPointsDataset, MapDataset, SpectrumDataset
from gammapy.irf import RadMax2D
from gammapy.maps import Map, MapAxis, RegionGeom, WcsGeom
from numpy.typing import NDArray
from regions import (  # type: ignore[import-untyped]
    CircleAnnulusSkyRegion,
    CircleSkyRegion,
    PointSkyRegion,
    Regions,
)

from obscluster.config.reduction import EnergyConfig, ReduceConfig
from obscluster.exceptions import RequestError

__all__ = [
    "empty_map_dataset",
    "empty_spectrum_dataset",
    "exclusion_mask",
    "fitted_mask",
    "has_off",
    "is_map",
    "is_point",
    "is_points",
    "is_spectrum",
    "on_region",
    "parse_regions",
    "ring_region",
]

# Reflected regions of runs that point this far from the target are still covered.
_EXCLUSION_WIDTH = 10 * u.deg
_EXCLUSION_BINSZ = 0.02 * u.deg
# Around the target in 3D, where the background would otherwise be fitted to the source.
_TARGET_EXCLUSION = "0.3 deg"


def energy_axis(config: EnergyConfig, name: str = "energy") -> MapAxis:
    """Axis with logarithmic bins."""
    return MapAxis.from_energy_bounds(
        config.min, config.max, nbin=config.bins_per_decade, per_decade=True, name=name
    )


def parse_regions(text: str) -> list[Any]:
    """Regions from a text in the format of DS9.

    Raises
    ------
    RequestError
        If it is not, or its coordinates are not those of the sky.
    """
    try:
        found = list(Regions.parse(text, format="ds9"))
    except Exception as error:  # noqa: BLE001 the parser raises all sorts
        raise _bad_region(text, str(error)) from None
    if not found or not all(hasattr(region, "to_pixel") for region in found):
        raise _bad_region(text, "no region of the sky in it")
    return found


def _bad_region(text: str, why: str) -> RequestError:
    return RequestError(
        f"region {text!r}: {why}; expected the format of DS9, such as 'icrs;circle(83.6, 22, 0.3)'"
    )


def on_region(config: ReduceConfig, position: SkyCoord, rad_max: RadMax2D | None) -> Any:
    """Region in which a run is counted.

    Parameters
    ----------
    config : `~obscluster.config.reduction.ReduceConfig`
        What to do.
    position : `~astropy.coordinates.SkyCoord`
        The target.
    rad_max : `gammapy.irf.RadMax2D` or None
        Directional cut of a point-like run: if it is one number, the radius of the region; if it
        depends on energy, the region is a point and Gammapy applies the cut.
    """
    if rad_max is not None:
        if rad_max.is_fixed_rad_max:
            return CircleSkyRegion(position, rad_max.quantity.reshape(-1)[0])
        return PointSkyRegion(position)
    if config.region.shape is not None:
        return parse_regions(config.region.shape)[0]
    return CircleSkyRegion(position, u.Quantity(config.region.radius))


def is_point(region: Any) -> bool:
    """Whether a region is a point, whose size Gammapy takes from the cut of the run."""
    return isinstance(region, PointSkyRegion)


def is_points(dataset: Any) -> bool:
    """Whether a dataset is flux points, rather than counts."""
    return isinstance(dataset, FluxPointsDataset)


def is_spectrum(dataset: Any) -> bool:
    """Whether a dataset is a spectrum in a region, rather than maps or points."""
    return not is_points(dataset) and bool(dataset.counts.geom.is_region)


def has_off(dataset: Any) -> bool:
    """Whether the background of a dataset is known from OFF counts."""
    return getattr(dataset, "counts_off", None) is not None


def fitted_mask(dataset: Any) -> NDArray[np.bool_]:
    """Bins of a dataset that are within its safe range and the energies of the fit."""
    mask = dataset.mask
    return mask if isinstance(mask, np.ndarray) else np.asarray(mask.data)


def is_map(dataset: Any) -> bool:
    """Whether a dataset has maps."""
    return not (is_points(dataset) or is_spectrum(dataset))


def ring_region(center: SkyCoord, radius: u.Quantity, width: u.Quantity) -> Any:
    """Ring around a direction."""
    return CircleAnnulusSkyRegion(center, radius, radius + width)


# Runs share the target and, but for point-like ones, the radius.
@lru_cache(maxsize=8)
def _circle_geom(
    frame: str, lon: float, lat: float, radius: float, energy: EnergyConfig
) -> RegionGeom:
    """Geometry of a circle, in degrees."""
    circle = CircleSkyRegion(SkyCoord(lon, lat, unit="deg", frame=frame), radius * u.deg)
    return RegionGeom.create(circle, axes=[energy_axis(energy)])


def empty_spectrum_dataset(config: ReduceConfig, region: Any, name: str) -> SpectrumDataset:
    """Dataset without data, in a region."""
    if type(region) is CircleSkyRegion:
        center = region.center.data
        place = (float(center.lon.deg), float(center.lat.deg), float(region.radius.to_value("deg")))
        geom = _circle_geom(region.center.frame.name, *place, config.energy)
    else:
        geom = RegionGeom.create(region, axes=[energy_axis(config.energy)])
    true_axis = energy_axis(config.true_axis, "energy_true")
    return SpectrumDataset.create(geom, energy_axis_true=true_axis, name=name)


def empty_map_dataset(config: ReduceConfig, position: SkyCoord, name: str) -> MapDataset:
    """Dataset without data, on a map around the target."""
    geom = _map_geom(position, config.map.width, config.map.binsz)
    geom = geom.to_cube([energy_axis(config.energy)])
    true_axis = energy_axis(config.true_axis, "energy_true")
    return MapDataset.create(geom, energy_axis_true=true_axis, name=name)


def _map_geom(position: SkyCoord, width: Any, binsz: Any) -> WcsGeom:
    sizes = [u.Quantity(value).to_value("deg") for value in (width, binsz)]
    return WcsGeom.create(skydir=position, width=sizes[0], binsz=sizes[1], frame="icrs", proj="TAN")


def exclusion_mask(config: ReduceConfig, position: SkyCoord) -> Map | None:
    """Map that is False where there may be gamma rays; None if nothing is excluded.

    Raises
    ------
    RequestError
        If a region or the file cannot be read.
    """
    asked = config.exclusion
    found = [region for text in asked.regions for region in parse_regions(text)]
    radius = asked.target or (_TARGET_EXCLUSION if config.kind == "3d" else None)
    if radius is not None:
        found.append(CircleSkyRegion(position, u.Quantity(radius)))
    mask = None
    if asked.file is not None:
        if Path(asked.file).suffix == ".reg":
            found += parse_regions(_read_text(asked.file))
        else:
            mask = _read_mask(asked.file, position)
    if mask is None and not found:
        return None
    if mask is None:
        geom = _map_geom(position, _EXCLUSION_WIDTH, _EXCLUSION_BINSZ)
        return geom.region_mask(found, inside=False)
    return mask & mask.geom.region_mask(found, inside=False) if found else mask


def _read_text(name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"exclusion.file {name}: cannot be read ({error})") from None


def _read_mask(name: str, position: SkyCoord) -> Map:
    try:
        mask = Map.read(name)
        if not mask.geom.is_flat:
            raise ValueError("has an energy axis; expected an image")
        mask = mask.sum_over_axes(keepdims=False)
        if not mask.geom.contains(position).all():
            center = mask.geom.center_skydir.icrs
            raise ValueError(
                f"is around RA {center.ra.deg:.3f}, Dec {center.dec.deg:.3f} and does not hold the "
                f"target at {position.icrs.ra.deg:.3f}, {position.icrs.dec.deg:.3f}; check its WCS"
            )
    except Exception as error:  # noqa: BLE001 a FITS file can be anything
        why = str(error) if error.args and error.args[0] else "has no coordinates of the sky"
        raise RequestError(
            f"exclusion.file {name}: {why}; expected a FITS image of the sky, 0 where it excludes"
        ) from None
    # True and False have become numbers on their way through the file.
    return Map.from_geom(mask.geom, data=mask.data != 0)
