"""All features of one run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain

import numpy as np
from astropy import units as u
from astropy.coordinates import angular_separation

from obscluster.exceptions import DataError
from obscluster.features.base import NotComputableError, Run
from obscluster.features.catalog import Request
from obscluster.features.row import Row
from obscluster.gadf.irf import IRF
from obscluster.gadf.shared_irfs import SharedIRFs
from obscluster.observation import Observation

__all__ = ["Task", "characterise"]

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
    observation : `~obscluster.observation.Observation`
        The observation; nothing that is read for its features is kept in it.
    task : `Task`
        Which features, and where.
    shared : `~obscluster.gadf.shared_irfs.SharedIRFs`, optional
        Holds the responses of files that several observations share.

    Returns
    -------
    row : `~obscluster.features.row.Row`
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
