"""One run to a dataset, by Gammapy's makers; many runs at once.

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
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from gammapy.data import EventList, Observation
from gammapy.datasets import MapDataset, SpectrumDataset
from gammapy.makers import (
    FoVBackgroundMaker,
    MapDatasetMaker,
    ReflectedRegionsBackgroundMaker,
    SpectrumDatasetMaker,
    WobbleRegionsFinder,
)
from gammapy.maps import Map

from obscluster.exceptions import ObsClusterError, RequestError
from obscluster.reduction.archive import is_read_error
from obscluster.reduction.config import ReduceConfig
from obscluster.reduction.geometry import (
    empty_map_dataset,
    empty_spectrum_dataset,
    exclusion_mask,
    is_point,
    on_region,
)
from obscluster.reduction.mask import safe_mask_maker
from obscluster.reduction.messages import captured
from obscluster.reduction.reflected import ReflectedCirclesFinder, ReflectedCirclesMaker
from obscluster.reduction.ring import RingRegionBackgroundMaker
from obscluster.workers import interrupts_later, leave_interrupts_to_parent

__all__ = ["Outcome", "Plan", "make_plan", "reduce_observation", "reduce_runs", "run_name"]

# Seconds: single events lie on the ends of the intervals, but for rounding.
_ROUNDING = 1e-6
# Where the response does not tell how far a run sees.
_FIELD_OF_VIEW = 5 * u.deg


@dataclass(frozen=True, eq=False)
class Plan:
    """What is done to every run.

    Parameters
    ----------
    config : `~obscluster.reduction.config.ReduceConfig`
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
    loaded = _in_memory(observation, plan.config)
    reduce = _reduce_1d if plan.config.kind == "1d" else _reduce_3d
    return reduce(plan, loaded)


def _in_memory(observation: Observation, config: ReduceConfig) -> Observation:
    """The run with its data read once; Gammapy's reads its files anew for every use."""
    names = {"aeff", "edisp", "psf", *(["bkg"] if _needs_background(config) else [])}
    responses = {name: getattr(observation, name) for name in names & {*observation.available_irfs}}
    aeff = responses["aeff"]
    return Observation(
        obs_id=observation.obs_id,
        meta=observation.meta,
        gti=observation.gti,
        events=_good_events(observation),
        rad_max=observation.rad_max if aeff.is_pointlike else None,
        pointing=observation.pointing,
        location=observation.observatory_earth_location,
        **responses,
    )


def _good_events(observation: Observation) -> EventList:
    """Events inside the good time intervals, as `obscluster.gadf.events.EventList.within`."""
    events, gti = observation.events, observation.gti
    # Seconds since one reference: days would lose the digits that decide at the ends.
    ref = gti.time_ref
    times = (events.time - ref).to_value("s")
    inside = np.zeros(len(times), dtype=bool)
    for start, stop in zip(gti.time_start, gti.time_stop, strict=True):
        first, last = (start - ref).to_value("s"), (stop - ref).to_value("s")
        inside |= (times >= first - _ROUNDING) & (times <= last + _ROUNDING)
    return events if inside.all() else events.select_row_subset(inside)


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
    _check_field(observation, dataset.counts.geom.center_skydir)
    dataset = maker.run(dataset, observation)
    dataset = _background_1d(plan, region).run(dataset, observation)
    return safe_mask_maker(config, plan.position).run(dataset, observation)


def _check_field(observation: Observation, center: SkyCoord) -> None:
    """Check that a run sees the region.

    Gammapy finds reflected regions on a map that reaches to it, whose size knows no limit.

    Raises
    ------
    RequestError
        If the region is beyond the offsets of the response.
    """
    offset = observation.aeff.axes["offset"]
    # The response of point-like runs is often for one offset, which says nothing of the field.
    limit = offset.edges.max() if offset.nbin > 1 else _FIELD_OF_VIEW
    separation = center.separation(observation.get_pointing_icrs(observation.tmid))
    if separation > limit:
        raise RequestError(
            f"the region is {separation.deg:.3g} deg from the pointing, and the response ends at "
            f"{limit.to_value('deg'):.3g} deg"
        )


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
