"""The feature table: features of many observations, one row each."""

from __future__ import annotations

import logging
import os
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord, angular_separation
from astropy.table import Column, QTable, Table

from obscluster.archive.observation import Observation
from obscluster.exceptions import DataError, RequestError, SkippedRunWarning
from obscluster.features.base import Feature, NotComputableError, Row, Run
from obscluster.features.cache import FeatureCache
from obscluster.features.cache_keys import rows_through_cache
from obscluster.features.catalog import Request, parse_energies, parse_requests
from obscluster.features.scaling import standard_scaler
from obscluster.gadf.response import IRF
from obscluster.gadf.shared_irfs import SharedIRFs
from obscluster.parallel.engine import Engine, get_engine
from obscluster.values.parsing import degrees_of
from obscluster.version import __version__

if TYPE_CHECKING:
    from obscluster.features.cache import FeatureCache

__all__ = ["Task", "characterise", "count_notes", "get_features", "get_irfs_features", "kinds_of"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """What to compute for each observation.

    Parameters
    ----------
    requests : tuple of `~obscluster.features.catalog.Request`
        Features and their energies.
    position : (float, float), optional
        Right ascension and declination of the target in degrees.
    fixed_offset : float, optional
        Offset in degrees, where there is no target.
    containment_fraction : float
        Fraction of the PSF that ``psf-radius`` holds.
    """

    requests: tuple[Request, ...]
    position: tuple[float, float] | None
    fixed_offset: float | None
    containment_fraction: float

    @cached_property
    def hdu_types(self) -> tuple[str, ...]:
        """Responses that the features need."""
        needs = (request.feature.needs for request in self.requests)
        return tuple(sorted(set(chain.from_iterable(needs))))

    @cached_property
    def hopes(self) -> tuple[str, ...]:
        """Responses that they look at beside these, where they can be read."""
        hopes = chain.from_iterable(request.feature.hopes for request in self.requests)
        return tuple(sorted(set(hopes).difference(self.hdu_types)))

    @cached_property
    def with_gti(self) -> bool:
        """Whether a feature looks at the good time intervals."""
        names = {request.feature.name for request in self.requests}
        return not names.isdisjoint(("livetime", "LIVETIME", "event-rate"))

    @cached_property
    def at_offset(self) -> bool:
        """Whether no feature needs more of the responses than what is around the offset."""
        return all(request.feature.at_offset for request in self.requests)


def characterise(observation: Observation, task: Task, shared: SharedIRFs | None = None) -> Row:
    """All features of one observation.

    Parameters
    ----------
    observation : `~obscluster.archive.observation.Observation`
        The observation; nothing that is read for its features is kept in it.
    task : `Task`
        Which features, and where.
    shared : `~obscluster.gadf.shared_irfs.SharedIRFs`, optional
        Holds the responses of files that several observations share.

    Returns
    -------
    row : `~obscluster.features.base.Row`
        Values, and what was wrong.
    """
    n_columns = len(task.requests)
    values, final = np.full(n_columns, np.nan), [True] * n_columns
    remarks: list[Sequence[str]] = []
    # One pass over a file for all of it; where that fails, without what is only hoped for.
    for hoped in dict.fromkeys((task.hopes, ())):
        seen, reason = observation.passing(with_gti=task.with_gti), ""
        try:
            irfs, offset = _read(seen, task, (*task.hdu_types, *hoped), shared)
            break
        except DataError as error:
            reason = error.reason
    unread = seen.unread
    if reason:
        return Row.skip(n_columns, reason, unread.get(observation.obs_id, ""))
    run = Run(seen, irfs, offset, task.position is not None, task.containment_fraction)
    for i, request in enumerate(task.requests):
        # Each column has its own, since a cache may keep one and not the other.
        run.remarks = []
        values[i], final[i] = _value(run, request)
        # Nor is it known where an unreadable file left the offset open, or a feature has made do
        # with what the obs-index says.
        final[i] = final[i] and not np.isnan(offset) and not unread
        # Nor where what was hoped for may be there another day.
        final[i] = final[i] and (hoped == task.hopes or not request.feature.hopes)
        remarks.append(tuple(run.remarks))
    return Row(values, remarks, final, unread=unread.get(observation.obs_id, ""))


def _read(
    observation: Observation, task: Task, hdu_types: Sequence[str], shared: SharedIRFs | None
) -> tuple[dict[str, IRF], float]:
    """Responses of a run, and its offset in degrees."""
    near = None
    if task.at_offset:
        # Of what is only hoped for, the headers count.
        near = partial(_offset, observation, task) if task.hdu_types else _on_axis
    irfs = observation.read_irfs(*hdu_types, shared=shared, offset=near) if hdu_types else {}
    return irfs, _offset(observation, task)


def _on_axis() -> float:
    return 0.0


def _value(run: Run, request: Request) -> tuple[float, bool]:
    """Value of a feature, and whether the same files would give it again; NaN with a reason."""
    feature = request.feature
    arguments = () if request.energy is None else (request.energy,)
    try:
        # What divides by zero is no number, which is said below.
        with np.errstate(all="ignore"):
            found = feature.function(run, *arguments)
            in_unit = found.to_value(feature.unit) if isinstance(found, u.Quantity) else found
            value = float(in_unit)
    except NotComputableError as reason:
        run.remark(f"{feature.name}: {reason}")
        return np.nan, True
    except DataError as error:
        run.remark(f"{feature.name}: {error.reason}")
        return np.nan, False
    except (Exception, SystemExit) as error:  # noqa: BLE001 the others go on, whatever it is
        _LOG.debug("%s of run %s", feature.name, run.observation.obs_id, exc_info=True)
        text = " ".join(f"{type(error).__name__}: {error}".replace("; ", ", ").split())
        run.remark(f"{feature.name}: raises {text}")
        return np.nan, False
    if not np.isfinite(value):
        run.remark(f"{feature.name}: is {value}, which is no value")
        return np.nan, True
    return value, True


def _offset(observation: Observation, task: Task) -> float:
    """Offset from the pointing in degrees; NaN where it cannot be told and is not needed."""
    if task.position is None:
        return 0.0 if task.fixed_offset is None else task.fixed_offset
    try:
        pointing = observation.pointing_lon_lat()
    except DataError:
        if task.hdu_types:
            raise
        return float("nan")
    return float(np.degrees(angular_separation(*pointing, *np.radians(task.position))))


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
    observations : iterable of `~obscluster.archive.observation.Observation`
        The observations, such as `~obscluster.archive.store.Observations`.
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
        Anything with ``map``, see `obscluster.parallel.engine`; one worker unless told.
    progress : callable, optional
        Wraps the iterable of results, such as a progress bar.
    cache : `~obscluster.features.cache.FeatureCache` or path, optional
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
    skipped = [
        f"run {obs.obs_id} {row.note}"
        for obs, row in zip(observations, rows, strict=True)
        if row.skipped
    ]
    if skipped:
        more = f"; and {len(skipped) - 5} more" if len(skipped) > 5 else ""
        text = f"{len(skipped)} of {len(rows)} runs: {'; '.join(skipped[:5])}{more}"
        warnings.warn(text, SkippedRunWarning, stacklevel=3)
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
        value = degrees_of(offset)
    except ValueError as problem:
        raise RequestError(f"fixed_offset {offset}: {problem}") from None
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
