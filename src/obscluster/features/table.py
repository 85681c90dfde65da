"""The feature table: features of many observations, one row each."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from astropy.coordinates import Angle, SkyCoord
from astropy.table import Column, QTable, Table

from obscluster.engine import Engine, get_engine
from obscluster.exceptions import RequestError, SkippedRunWarning
from obscluster.features.base import Feature
from obscluster.features.catalog import Request, parse_energies, parse_requests
from obscluster.features.one_run import Task, characterise
from obscluster.features.row import Row
from obscluster.gadf.shared_irfs import SharedIRFs
from obscluster.observation import Observation
from obscluster.scaling import standard_scaler
from obscluster.version import __version__

if TYPE_CHECKING:
    from obscluster.cache import FeatureCache

__all__ = ["count_notes", "get_features", "get_irfs_features", "kinds_of"]

Names = str | Feature | Iterable[str | Feature]
Progress = Callable[[Iterable[Any]], Iterable[Any]]


def get_features(
    observations: Iterable[Observation],
    names: Names,
    energy: Any = None,
    position: SkyCoord | None = None,
    fixed_offset: Any = None,
    containment_fraction: float = 0.68,
    own: Mapping[str, Feature] | None = None,
    engine: Engine | None = None,
    progress: Progress | None = None,
    cache: FeatureCache | str | os.PathLike[str] | None = None,
) -> QTable:
    """Features of many observations: of their responses, of the observing conditions, or both.

    Parameters
    ----------
    observations : iterable of `~obscluster.observation.Observation`
        The observations, such as `~obscluster.store.Observations`.
    names : str, `~obscluster.features.base.Feature`, or an iterable of them
        Features of `~obscluster.features.catalog.FEATURES`, numeric columns of the obs-index, or
        one's own. A name may carry an energy: ``psf-r68@1TeV``.
    energy : `~astropy.units.Quantity`, str, or a list of them, optional
        Energies with unit of the features that depend on one and do not carry it: true, for
        ``bkg-rate``, ``rad-max`` and ``event-rate`` reconstructed ones. With several, a column is
        named ``psf-r68@10TeV``.
    position : `~astropy.coordinates.SkyCoord`, optional
        Evaluate at the offset between each pointing and this direction; beyond the responses, at
        their largest offset, which is noted.
    fixed_offset : `~astropy.units.Quantity` or str, optional
        Evaluate at this offset instead. Without either, on the axis.
    containment_fraction : float
        Fraction of the PSF that ``psf-radius`` holds.
    own : mapping, optional
        More features by name, see `~obscluster.features.catalog.load_features`.
    engine : optional
        Anything with ``map``, see `obscluster.engine`; one worker unless told.
    progress : callable, optional
        Wraps the iterable of results, such as a progress bar.
    cache : `~obscluster.cache.FeatureCache` or path, optional
        Where features are kept, so that only those that are new or out of date are computed.

    Returns
    -------
    features : `~astropy.table.QTable`
        Columns ``obs_id``, the features, and ``notes``. A value that cannot be computed is NaN and
        its reason is in ``notes``; what made the table is in ``meta``. Where files could not be
        read, ``meta["unread"]`` is a dict of OBS_ID to reason: these runs lack values, or have
        those of the obs-index, and may have others when they are read again.

    Raises
    ------
    RequestError
        If a name, an energy, an offset or the fraction is not usable.

    Warns
    -----
    SkippedRunWarning
        If the files of some observations cannot be read.
    """
    observations = list(observations)
    energies = None if energy is None else parse_energies(energy)
    requests = parse_requests(names, energies, _obs_table(observations), own)
    if position is not None and fixed_offset is not None:
        raise RequestError("give either position or fixed_offset, not both")
    fraction = _fraction(containment_fraction)
    task = Task(requests, _lon_lat(position), _degrees(fixed_offset), fraction)
    rows = _rows(observations, task, engine or get_engine(1), progress, cache)
    table = _table(observations, rows, task)
    _warn_of_skipped(observations, rows)
    return table


def get_irfs_features(
    observations: Iterable[Observation],
    energy_true: Any,
    position: SkyCoord | None = None,
    fixed_offset: Any = None,
    names: Names | None = None,
    containment_fraction: float = 0.68,
    apply_standard_scaler: bool = False,
    engine: Engine | None = None,
    progress: Progress | None = None,
    cache: FeatureCache | str | os.PathLike[str] | None = None,
) -> QTable:
    """Features of the instrument responses, by Gammapy's name.

    Parameters
    ----------
    energy_true : `~astropy.units.Quantity`, str, or a list of them
        True energies with unit.
    names : optional
        ``edisp-bias``, ``edisp-res`` and ``psf-radius`` unless told.
    apply_standard_scaler : bool
        Return features of zero mean and unit variance.
    observations, position, fixed_offset, containment_fraction, engine, progress, cache
        See `get_features`.

    Returns
    -------
    features : `~astropy.table.QTable`
        See `get_features`.

    Raises
    ------
    RequestError
        If a name, an energy, an offset or the fraction is not usable.
    """
    features = get_features(
        observations,
        ("edisp-bias", "edisp-res", "psf-radius") if names is None else names,
        energy_true,
        position,
        fixed_offset,
        containment_fraction,
        engine=engine,
        progress=progress,
        cache=cache,
    )
    return standard_scaler(features) if apply_standard_scaler else features


def kinds_of(note: str) -> list[str]:
    """Reasons of a note, without the brackets that hold what differs from run to run."""
    kinds = [part.partition(" (")[0].strip() for part in str(note).split("; ")]
    return [kind for kind in kinds if kind and kind != "--"]


def count_notes(notes: Iterable[str]) -> dict[str, int]:
    """Reasons of the column ``notes``, and the number of runs of each, most first.

    Parameters
    ----------
    notes : iterable of str
        One per run: reasons apart by ``;``, and what differs from run to run in brackets behind
        each.
    """
    counts: Counter[str] = Counter()
    for note in notes:
        counts.update(set(kinds_of(note)))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _fraction(value: Any) -> float:
    try:
        fraction = float(value)
    except (TypeError, ValueError):
        fraction = np.nan
    if not 0 < fraction < 1:
        raise RequestError(f"containment_fraction {value!r}; expected between 0 and 1")
    return fraction


def _obs_table(observations: Sequence[Observation]) -> Table | None:
    return next((obs.obs_table for obs in observations if obs.obs_table is not None), None)


def _lon_lat(position: SkyCoord | None) -> tuple[float, float] | None:
    if position is None:
        return None
    if not isinstance(position, SkyCoord):
        raise RequestError(f"position {position!r}: expected a SkyCoord")
    if not position.isscalar:
        raise RequestError(f"{len(position)} positions; expected one")
    return float(position.icrs.ra.deg), float(position.icrs.dec.deg)


def _degrees(offset: Any) -> float | None:
    if offset is None:
        return None
    try:
        value = float(Angle(offset).deg)
    except (ValueError, TypeError, u.UnitsError):
        text = f"fixed_offset {offset}: not an angle; write it like '0.5 deg'"
        raise RequestError(text) from None
    if not value >= 0:
        raise RequestError(f"fixed_offset {offset}: expected an angle from 0")
    return value


def _rows(
    observations: Sequence[Observation],
    task: Task,
    engine: Engine,
    progress: Progress | None,
    cache: FeatureCache | str | os.PathLike[str] | None,
) -> list[Row]:
    """Rows of the table, in the order of the observations."""

    def compute(
        requests: tuple[Request, ...], some: Sequence[Observation]
    ) -> Generator[Row, None, None]:
        part = replace(task, requests=requests)
        shared = SharedIRFs.among(obs.files(*part.hdu_types, *part.hopes) for obs in some)
        yield from engine.map(partial(characterise, task=part, shared=shared), some)

    if cache is None:
        with closing(compute(task.requests, observations)) as results:
            return list(results if progress is None else progress(results))
    # Loads what is needed for no other purpose.
    from obscluster.cache import FeatureCache
    from obscluster.features.cached import rows_through_cache

    cache = cache if isinstance(cache, FeatureCache) else FeatureCache(cache)
    place = (task.position, task.fixed_offset, task.containment_fraction)
    return rows_through_cache(cache, observations, task.requests, place, compute, progress)


def _table(observations: Sequence[Observation], rows: Sequence[Row], task: Task) -> QTable:
    table = QTable()
    table["obs_id"] = Column(
        np.array([obs.obs_id for obs in observations], dtype=np.int64),
        description="Observation identifier",
    )
    values = np.array([row.values for row in rows]).reshape(len(rows), len(task.requests))
    for i, request in enumerate(task.requests):
        feature, column = request.feature, request.column
        table[column] = u.Quantity(values[:, i], feature.unit)
        fraction = f" ({task.containment_fraction:.0%})" if feature.name == "psf-radius" else ""
        at = f" at {request.energy_text}" if request.energy_text else ""
        table[column].info.description = f"{feature.description}{fraction}{at}"
        if feature.period is not None:
            table[column].info.meta = {"period": feature.period}
    table["notes"] = Column(
        [row.note for row in rows], dtype=str, description="Why values are missing or doubtful"
    )
    position, offset = task.position, task.fixed_offset
    energies = dict.fromkeys(r.energy_text for r in task.requests if r.energy_text)
    table.meta.update(
        names=[request.column for request in task.requests],
        energy_true=list(energies),
        position=position and {"ra": position[0], "dec": position[1], "unit": "deg"},
        fixed_offset=None if offset is None else f"{offset:g} deg",
        containment_fraction=task.containment_fraction,
        obscluster=__version__,
    )
    runs = zip(observations, rows, strict=True)
    unread = {int(obs.obs_id): row.unread for obs, row in runs if row.unread}
    if unread:
        table.meta["unread"] = unread
    return table


def _warn_of_skipped(observations: Sequence[Observation], rows: Sequence[Row]) -> None:
    skipped = [
        f"run {obs.obs_id} {row.note}"
        for obs, row in zip(observations, rows, strict=True)
        if row.skipped
    ]
    if skipped:
        more = f"; and {len(skipped) - 5} more" if len(skipped) > 5 else ""
        text = f"{len(skipped)} of {len(rows)} runs: {'; '.join(skipped[:5])}{more}"
        warnings.warn(text, SkippedRunWarning, stacklevel=3)
