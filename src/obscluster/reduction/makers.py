"""One run to a dataset, by Gammapy's makers; many runs at once.

The W statistic profiles over an unknown background in every bin, of which few OFF counts say
little, so that its best fit is biased, however many bins there are (Neyman and Scott). In the limit
of many bins, from the sum over all outcomes of a bin with signal s, background b and the given
number of expected OFF counts, at alpha = 0.2:

=====  ====  ===  ===  ======  ===
s / b  0.5   1    2    5       10
=====  ====  ===  ===  ======  ===
0.3    lost  lost 36 % 4 %     0.5 %
1      lost  12 % 6 %  0.7 %   0.1 %
5      2 %   1 %  0 %  0 %     0 %
10     0 %   0 %  0 %  0 %     0 %
=====  ====  ===  ===  ======  ===

The manual of XSPEC asks for one background count in every bin, and spectra are often grouped to
five. Five are enough here, too, and fewer are where there is little background.

Gammapy takes every region to pixels and back by itself, each time by way of objects for the sky,
and takes all events to pixels once per region. For circles all of that is arithmetic on arrays.

Gammapy has rings for maps alone. There every pixel has a ring of its own, and the rings of the
pixels of a region overlap, so that adding them up would count the same events many times. One
ring for the whole region does not.

Runs are shared out to processes. Gammapy spends its time in the interpreter, so that threads take
turns: for 21 runs of H.E.S.S. on two busy cores, two threads took 1.15 times as long as one, and
two processes 0.75 times.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from astropy import units as u
from astropy.coordinates import Angle, SkyCoord
from gammapy.data import Observation
from gammapy.datasets import MapDataset, SpectrumDataset, SpectrumDatasetOnOff
from gammapy.makers import (
    FoVBackgroundMaker,
    MapDatasetMaker,
    ReflectedRegionsBackgroundMaker,
    ReflectedRegionsFinder,
    SafeMaskMaker,
    SpectrumDatasetMaker,
    WobbleRegionsFinder,
)
from gammapy.maps import Map, RegionGeom, RegionNDMap, WcsGeom
from numpy.typing import ArrayLike, NDArray
from regions import (  # type: ignore[import-untyped]
    CircleSkyRegion,
    PixCoord,
)
from scipy.optimize import isotonic_regression
from scipy.special import xlogy

from obscluster.config.reduction import ReduceConfig
from obscluster.exceptions import ObsClusterError, RequestError
from obscluster.information.safe_energy import area_threshold_on_axis
from obscluster.parallel.engine import interrupts_later, leave_interrupts_to_parent
from obscluster.reduction.archive import is_read_error
from obscluster.reduction.geometry import (
    empty_map_dataset,
    empty_spectrum_dataset,
    exclusion_mask,
    is_point,
    on_region,
    ring_region,
)
from obscluster.reduction.messages import captured

__all__ = [
    "ENOUGH",
    "AreaSafeMaskMaker",
    "Outcome",
    "Plan",
    "ReflectedCirclesFinder",
    "ReflectedCirclesMaker",
    "RingRegionBackgroundMaker",
    "expected_off",
    "make_plan",
    "off_advice",
    "plain_reason",
    "reduce_observation",
    "reduce_runs",
    "run_name",
    "safe_mask_maker",
    "sparse_counts",
]

ENOUGH = 5.0
"""Expected OFF counts per bin from which on the statistic is as good as unbiased."""
# Of the counts in bins with fewer: as little background hardly matters, down to 0.2 OFF counts.
_LITTLE = 0.1
# Of all counts: so few in such bins hardly count.
_FEW = 0.1
_SHOWN = 3

NO_REGION = (
    "no OFF region fits: the target is too close to the pointing, or the exclusion leaves no room; "
    "take background.method ring, a smaller region.radius or background.min_distance, or exclude "
    "less"
)


def plain_reason(reason: str) -> str:
    """Why a run has no dataset: without its name where that is a lack of OFF regions."""
    return NO_REGION if "No OFF region found" in reason else reason


def expected_off(counts: ArrayLike) -> NDArray[np.float64]:
    """OFF counts that are expected where some were counted.

    A bin must not be judged by its own fluctuation. The background falls with energy above its
    peak and rises below it, so that the curve of that kind which is nearest to the counts tells
    more than each of them does (isotonic regression, which for Poisson counts is the most likely
    one; Barlow et al. 1972, Statistical Inference under Order Restrictions).

    Parameters
    ----------
    counts : array-like
        OFF counts, shape (n_energies,).

    Returns
    -------
    expected : `~numpy.ndarray`
        Shape (n_energies,), with the same sum.
    """
    values = np.asarray(counts, dtype=float)
    fits = (
        np.concatenate(
            [
                isotonic_regression(values[:top]).x if top else [],
                isotonic_regression(values[top:], increasing=False).x,
            ]
        )
        for top in range(len(values))
    )
    return np.asarray(max(fits, key=lambda fit: float(xlogy(values, fit).sum())))


def sparse_counts(dataset: Any, n_parts: int = 1) -> dict[str, float]:
    """Counts in bins with few expected OFF counts.

    Parameters
    ----------
    dataset : `gammapy.datasets.SpectrumDatasetOnOff`
        A spectrum.
    n_parts : int
        Into how many runs its OFF counts are divided.

    Returns
    -------
    found : dict
        ``counts`` of all bins that are used; ``sparse``, those in bins with fewer than `ENOUGH`
        expected OFF counts per part, see `expected_off`; ``background``, what is expected of these.
    """
    used = dataset.mask_safe.data.ravel()
    counts, off, background = (
        np.where(used, np.nan_to_num(values.data.ravel()), 0.0)
        for values in (dataset.counts, dataset.counts_off, dataset.background)
    )
    expected = np.zeros(len(off))
    expected[used] = expected_off(off[used])
    sparse = used & (expected < ENOUGH * n_parts)
    return {
        "counts": float(counts.sum()),
        "sparse": float(counts[sparse].sum()),
        "background": round(float(background[sparse].sum()), 3),
    }


def off_advice(groups: Mapping[str, Mapping[str, Any]], config: ReduceConfig) -> list[str]:
    """What to know of the OFF counts of a reduction, and what to do.

    Parameters
    ----------
    groups : mapping
        Name of a group to its record, with ``few_off`` as `sparse_counts` has it, of the group
        (``group``) and of its runs apart (``runs``).
    config : `~obscluster.config.reduction.ReduceConfig`
        What was asked for. Runs apart are looked at if ``keep_runs`` is.

    Returns
    -------
    lines : list of str
        Sentences; none if all is well.
    """
    more = "fewer" if config.background.method == "ring" else "more OFF regions, fewer"
    remedies = {
        "group": f"take {more} groups, or wider bins (energy.bins_per_decade below "
        f"{config.energy.bins_per_decade})",
        "runs": "fits of the runs apart are no reference, fit the groups",
    }
    lines = []
    if not config.keep_runs:
        del remedies["runs"]
    for part, remedy in remedies.items():
        found = {name: group.get("few_off", {}).get(part) for name, group in groups.items()}
        few = {name: values for name, values in found.items() if values and _matters(values)}
        if not few:
            continue
        names = ", ".join(list(few)[:_SHOWN])
        names += f" and {len(few) - _SHOWN} more groups" if len(few) > _SHOWN else ""
        share = sum(v["sparse"] for v in few.values()) / sum(v["counts"] for v in few.values())
        of = "" if part == "group" else "the runs of "
        lines.append(
            f"{share:.0%} of the counts in {of}{names} are in energy bins with fewer than "
            f"{ENOUGH:g} expected OFF counts, where the W statistic is biased: {remedy}"
        )
    return lines


def _matters(found: Mapping[str, float]) -> bool:
    """Whether so many counts are in such bins, and so much of them is background."""
    counts, sparse = found["counts"], found["sparse"]
    return sparse > _FEW * counts and found["background"] > _LITTLE * sparse


class AreaSafeMaskMaker(SafeMaskMaker):
    """Gammapy's maker, which also knows expected counts, and areas above the limit from the start.

    Gammapy uses energies from where the area first crosses the limit. If the axis begins above the
    turn-on, that is where the area falls at its upper end, and nothing is left of the run. The
    crossing is that of Gammapy's interpolation, in closed form.

    Parameters
    ----------
    min_counts : float
        With the method "counts": OFF counts that are expected at least in a bin that is used, see
        `~obscluster.reduction.makers.expected_off`.
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
    config : `~obscluster.config.reduction.ReduceConfig`
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
        # Angle under which the pixels of a circle are seen, in radians.
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
        step = float(size) + self.min_distance.to_value("rad")
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


# Seconds: single events lie on the ends of the intervals, but for rounding.
_ROUNDING = 1e-6
# Where the response does not tell how far a run sees.
_FIELD_OF_VIEW = 5 * u.deg


@dataclass(frozen=True, eq=False)
class Plan:
    """What is done to every run.

    Parameters
    ----------
    config : `~obscluster.config.reduction.ReduceConfig`
        What to do.
    position : `~astropy.coordinates.SkyCoord`
        The target.
    exclusion : `gammapy.maps.Map` or None
        False where the background must not be taken.
    """

    config: ReduceConfig
    position: SkyCoord
    exclusion: Map | None


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of a run.

    Parameters
    ----------
    obs_id : int
        The run.
    dataset : dataset of Gammapy, or None
        The run reduced.
    reason : str
        Why there is no dataset.
    messages : mapping
        What Gammapy said, and how often.
    unread : bool
        Whether the reason is that a file could not be read.
    """

    obs_id: int
    dataset: Any = None
    reason: str = ""
    messages: Mapping[str, int] = field(default_factory=dict)
    unread: bool = False


def make_plan(config: ReduceConfig, position: SkyCoord) -> Plan:
    """Plan for the runs on a target.

    Raises
    ------
    RequestError
        If a region or a mask cannot be read.
    """
    with captured():
        if config.region.shape is not None:
            on_region(config, position, None)
        return Plan(config, position, exclusion_mask(config, position))


def run_name(obs_id: int) -> str:
    """Name of the dataset of a run."""
    return f"run_{obs_id}"


def reduce_runs(
    observations: Sequence[Observation], plan: Plan, workers: int = 1
) -> Generator[Outcome, None, None]:
    """Reduce runs, several at once.

    Parameters
    ----------
    observations : sequence of `gammapy.data.Observation`
        The runs.
    plan : `Plan`
        What to do.
    workers : int
        Number of processes; with 1, all happens in this one.

    Yields
    ------
    outcome : `Outcome`
        What became of each, in the order of the observations.
    """
    reduce = partial(reduce_run, plan)
    if workers == 1 or len(observations) < 2:
        # What comes from another process has projections with the digits of a FITS header; so has
        # what does not, so that results are the same to the bit.
        for outcome in map(reduce, observations):
            yield pickle.loads(pickle.dumps(outcome))  # noqa: S301 made here
        return
    # A forked process has Gammapy loaded already, which takes longer than many a reduction.
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("fork" if "fork" in methods else None)
    with ProcessPoolExecutor(min(workers, len(observations)), context, _as_worker) as pool:
        with captured(), interrupts_later():
            # Processes start here; newer Pythons warn of forking beside threads.
            outcomes = pool.map(reduce, observations)
        yield from outcomes


def _as_worker() -> None:
    """Leave interrupts to the main process, and end with it even if it is killed."""
    leave_interrupts_to_parent()

    def end_with_parent() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def reduce_run(plan: Plan, observation: Observation) -> Outcome:
    """Reduce a run; whatever goes wrong is told in the outcome.

    Parameters
    ----------
    plan : `Plan`
        What to do.
    observation : `gammapy.data.Observation`
        The run.
    """
    obs_id, failure = int(observation.obs_id), None
    with captured() as messages:
        try:
            dataset, reason = reduce_observation(plan, observation), ""
        except ObsClusterError as error:
            dataset, reason = None, str(error)
        except Exception as error:  # noqa: BLE001 a damaged run makes the engine raise anything
            dataset, reason, failure = None, f"{type(error).__name__}: {error}", error
    unread = failure is not None and is_read_error(failure, messages)
    if dataset is not None and not dataset.mask_safe.data.any():
        dataset = None
        reason = "; ".join(messages) or "no energy and offset passes the safe mask"
    return Outcome(obs_id, dataset, reason, dict(messages), unread)


def reduce_observation(plan: Plan, observation: Observation) -> MapDataset:
    """Dataset of a run, named ``run_<obs_id>``; `SpectrumDatasetOnOff` in 1D.

    Parameters
    ----------
    plan : `Plan`
        What to do.
    observation : `gammapy.data.Observation`
        The run.
    """
    # The run with its data read once; Gammapy's reads its files anew for every use.
    names = {"aeff", "edisp", "psf", *(["bkg"] if _needs_background(plan.config) else [])}
    responses = {name: getattr(observation, name) for name in names & {*observation.available_irfs}}
    aeff = responses["aeff"]
    # Events inside the good time intervals, as `obscluster.gadf.events.EventList.within`.
    events, gti = observation.events, observation.gti
    # Seconds since one reference: days would lose the digits that decide at the ends.
    ref = gti.time_ref
    times = (events.time - ref).to_value("s")
    inside = np.zeros(len(times), dtype=bool)
    for start, stop in zip(gti.time_start, gti.time_stop, strict=True):
        first, last = (start - ref).to_value("s"), (stop - ref).to_value("s")
        inside |= (times >= first - _ROUNDING) & (times <= last + _ROUNDING)
    loaded = Observation(
        obs_id=observation.obs_id,
        meta=observation.meta,
        gti=observation.gti,
        events=(events if inside.all() else events.select_row_subset(inside)),
        rad_max=observation.rad_max if aeff.is_pointlike else None,
        pointing=observation.pointing,
        location=observation.observatory_earth_location,
        **responses,
    )
    reduce = _reduce_1d if plan.config.kind == "1d" else _reduce_3d
    return reduce(plan, loaded)


def _needs_background(config: ReduceConfig) -> bool:
    return config.kind == "3d" or config.background.method == "ring"


def _reduce_1d(plan: Plan, observation: Observation) -> SpectrumDataset:
    config, rad_max = plan.config, observation.rad_max
    pointlike = observation.aeff.is_pointlike
    if not pointlike and config.region.containment_correction and observation.psf is None:
        raise RequestError(
            "no PSF for the containment correction; set region.containment_correction: false"
        )
    region = on_region(config, plan.position, rad_max)
    maker = SpectrumDatasetMaker(
        selection=["counts", "exposure", "edisp"],
        containment_correction=config.region.containment_correction and not pointlike,
    )
    dataset = empty_spectrum_dataset(config, region, run_name(observation.obs_id))
    # Check that a run sees the region.
    offset = observation.aeff.axes["offset"]
    # The response of point-like runs is often for one offset, which says nothing of the field.
    limit = offset.edges.max() if offset.nbin > 1 else _FIELD_OF_VIEW
    separation = dataset.counts.geom.center_skydir.separation(
        observation.get_pointing_icrs(observation.tmid)
    )
    if separation > limit:
        raise RequestError(
            f"the region is {separation.deg:.3g} deg from the pointing, and the response ends at "
            f"{limit.to_value('deg'):.3g} deg"
        )
    dataset = maker.run(dataset, observation)
    dataset = _background_1d(plan, region).run(dataset, observation)
    return safe_mask_maker(config, plan.position).run(dataset, observation)


def _background_1d(plan: Plan, region: Any) -> Any:
    asked, method = plan.config.background, plan.config.background.method
    if method == "auto":
        method = "wobble" if is_point(region) else "reflected"
    if method == "ring":
        return RingRegionBackgroundMaker(
            u.Quantity(asked.ring_radius), u.Quantity(asked.ring_width), plan.exclusion
        )
    if method == "wobble":
        finder = WobbleRegionsFinder(n_off_regions=asked.off_regions or 1)
        return ReflectedRegionsBackgroundMaker(finder, exclusion_mask=plan.exclusion)
    finder = ReflectedCirclesFinder(
        min_distance_input=asked.min_distance, max_region_number=asked.off_regions or 10000
    )
    return ReflectedCirclesMaker(finder, exclusion_mask=plan.exclusion)


def _reduce_3d(plan: Plan, observation: Observation) -> MapDataset:
    config = plan.config
    pointing = observation.get_pointing_icrs(observation.tmid)
    name = run_name(observation.obs_id)
    width = 2 * u.Quantity(config.safe_mask.offset_max)
    whole = empty_map_dataset(config, plan.position, f"{name}-whole")
    separation = plan.position.separation(pointing)
    if separation > (u.Quantity(config.map.width) + width) / np.sqrt(2):
        raise RequestError(
            f"no part of the map is in the field of view: the target is {separation.deg:.3g} deg "
            "from the pointing"
        )
    dataset = whole.cutout(pointing, width=width, name=name)
    dataset = MapDatasetMaker().run(dataset, observation)
    dataset = safe_mask_maker(config, plan.position).run(dataset, observation)
    background = FoVBackgroundMaker(
        method=config.background.fov_method, exclusion_mask=plan.exclusion
    )
    return background.run(dataset, observation)
