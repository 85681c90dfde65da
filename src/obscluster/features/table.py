"""The feature table: features of many observations, one row each."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import Angle, SkyCoord, angular_separation
from astropy.table import Column, QTable
from numpy.typing import NDArray

from obscluster import __version__
from obscluster.engine import Engine, get_engine
from obscluster.exceptions import DataError, RequestError, SkippedRunWarning, unknown_name
from obscluster.features.irf import IRF_FEATURES, NotComputableError
from obscluster.gadf.irf import IRF
from obscluster.observation import Observation
from obscluster.scaling import standard_scaler

__all__ = ["get_irfs_features", "parse_energies"]


@dataclass(frozen=True)
class _Request:
    """What to compute for each observation."""

    names: tuple[str, ...]
    energies: tuple[float, ...]
    position: tuple[float, float] | None  # ICRS, in degrees
    fixed_offset: float | None
    containment_fraction: float


@dataclass(frozen=True)
class _Row:
    """Values of one observation, shape (n_names, n_energies), and what was wrong."""

    values: NDArray[np.float64]
    note: str
    skipped: bool = False


def get_irfs_features(
    observations: Iterable[Observation],
    energy_true: Any,
    position: SkyCoord | None = None,
    fixed_offset: Any = None,
    names: str | Sequence[str] | None = None,
    containment_fraction: float = 0.68,
    apply_standard_scaler: bool = False,
    engine: Engine | None = None,
    progress: Callable[[Iterable[Any]], Iterable[Any]] | None = None,
) -> QTable:
    """Features of the instrument responses of many observations.

    Parameters
    ----------
    observations : iterable of `~obscluster.observation.Observation`
        The observations, such as `~obscluster.store.Observations`.
    energy_true : `~astropy.units.Quantity`, str, or a list of them
        True energies with unit. With several, a column is named ``psf-radius@10TeV``.
    position : `~astropy.coordinates.SkyCoord`, optional
        Evaluate at the offset between each pointing and this direction; beyond the responses, at
        their largest offset, which is noted.
    fixed_offset : `~astropy.units.Quantity` or str, optional
        Evaluate at this offset instead. Without either, on the axis.
    names : str or sequence of str, optional
        Features, see `~obscluster.features.irf.IRF_FEATURES`; all unless told.
    containment_fraction : float
        Fraction of the PSF that ``psf-radius`` holds.
    apply_standard_scaler : bool
        Return features of zero mean and unit variance.
    engine : optional
        Anything with ``map``, see `obscluster.engine`; one worker unless told.
    progress : callable, optional
        Wraps the iterable of results, such as a progress bar.

    Returns
    -------
    features : `~astropy.table.QTable`
        Columns ``obs_id``, the features, and ``notes``. A value that cannot be computed is NaN and
        its reason is in ``notes``; what made the table is in ``meta``.

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
    columns = _names(names)
    energies = parse_energies(energy_true)
    if position is not None and fixed_offset is not None:
        raise RequestError("give either position or fixed_offset, not both")
    if not 0 < containment_fraction < 1:
        raise RequestError(f"containment_fraction {containment_fraction}; expected between 0 and 1")
    request = _Request(
        columns,
        tuple(energies.to_value(u.TeV).tolist()),
        _lon_lat(position),
        _degrees(fixed_offset),
        float(containment_fraction),
    )
    engine = engine or get_engine(1)
    results = engine.map(partial(_characterise, request=request), observations)
    rows = list(results if progress is None else progress(results))
    features = _table(observations, rows, request, energies)
    _warn_of_skipped(observations, rows)
    return standard_scaler(features) if apply_standard_scaler else features


def parse_energies(energy: Any) -> u.Quantity:
    """Energies from a quantity, a text such as "1 TeV", or a list of either.

    Returns
    -------
    energies : `~astropy.units.Quantity`
        Shape (n_energies,), in the unit given first.

    Raises
    ------
    RequestError
        If there is no energy unit, no value, or one that is not positive.
    """
    try:
        parts = [u.Quantity(e) for e in energy] if isinstance(energy, list | tuple) else energy
        energies: u.Quantity = np.atleast_1d(u.Quantity(parts))
    except (TypeError, ValueError, u.UnitsError):
        raise RequestError(f"energy {energy!r}: not an energy; write it like '1 TeV'") from None
    if energies.ndim != 1 or energies.size == 0 or not (energies.value > 0).all():
        raise RequestError(f"energy {energy}: expected positive values")
    if not energies.unit.is_equivalent(u.TeV):
        unit = f"is in {energies.unit}" if energies.unit != u.one else "has no unit"
        raise RequestError(f"energy {energy} {unit}; write it like '{energies[0].value:g} TeV'")
    return energies


def _names(names: str | Sequence[str] | None) -> tuple[str, ...]:
    names = list(IRF_FEATURES) if names is None else [names] if isinstance(names, str) else names
    for name in names:
        if name not in IRF_FEATURES:
            raise RequestError(unknown_name("feature", name, IRF_FEATURES))
    if len(set(names)) != len(names) or not names:
        raise RequestError(f"features {', '.join(names) or '(none)'}: name each one once")
    return tuple(names)


def _lon_lat(position: SkyCoord | None) -> tuple[float, float] | None:
    if position is None:
        return None
    if not position.isscalar:
        raise RequestError(f"{len(position)} positions; expected one")
    return float(position.icrs.ra.deg), float(position.icrs.dec.deg)


def _degrees(offset: Any) -> float | None:
    if offset is None:
        return None
    try:
        value = float(Angle(offset).deg)
    except (ValueError, TypeError, u.UnitsError):
        raise RequestError(
            f"fixed_offset {offset}: not an angle; write it like '0.5 deg'"
        ) from None
    if not value >= 0:
        raise RequestError(f"fixed_offset {offset}: expected an angle from 0")
    return value


def _characterise(observation: Observation, request: _Request) -> _Row:
    """All features of one observation."""
    values = np.full((len(request.names), len(request.energies)), np.nan)
    hdu_types = {IRF_FEATURES[name].hdu_type for name in request.names}
    try:
        irfs = observation.read_irfs(*sorted(hdu_types))
        offset = _offset(observation, request)
    except DataError as error:
        return _Row(values, f"skipped: {error}", skipped=True)
    notes: dict[str, None] = {}
    for i, name in enumerate(request.names):
        feature = IRF_FEATURES[name]
        irf = irfs.get(feature.hdu_type)
        if irf is None:
            notes[f"{name}: the index lists no {feature.hdu_type}"] = None
            continue
        here = _limited(irf, offset) if request.position is not None else offset
        if here < offset:
            notes[f"target is {offset:.2f} deg off, {irf.hdu_class} taken at {here:.2f} deg"] = None
        for j, energy in enumerate(request.energies):
            try:
                values[i, j], note = feature.function(
                    irf, energy, here, request.containment_fraction
                )
            except NotComputableError as reason:
                note = str(reason)
            if note:
                notes[f"{name}: {note}"] = None
    return _Row(values, "; ".join(notes))


def _offset(observation: Observation, request: _Request) -> float:
    """Offset from the pointing in degrees."""
    if request.position is None:
        return 0.0 if request.fixed_offset is None else request.fixed_offset
    pointing = observation.pointing_lon_lat()
    return float(np.degrees(angular_separation(*pointing, *np.radians(request.position))))


def _limited(irf: IRF, offset: float) -> float:
    """Offset, at most that of the last tabulated one."""
    axis = irf.axes["offset"]
    return min(offset, float(axis.center[-1])) if axis.nbin > 1 else offset


def _table(
    observations: Sequence[Observation],
    rows: Sequence[_Row],
    request: _Request,
    energies: u.Quantity,
) -> QTable:
    table = QTable()
    table["obs_id"] = Column(
        np.array([obs.obs_id for obs in observations], dtype=np.int64),
        description="Observation identifier",
    )
    shape = (len(rows), len(request.names), len(energies))
    values = np.array([row.values for row in rows]).reshape(shape)
    for i, name in enumerate(request.names):
        feature = IRF_FEATURES[name]
        for j, energy in enumerate(energies):
            label = f"{energy.value:g} {energy.unit}"
            column = name if len(energies) == 1 else f"{name}@{label.replace(' ', '')}"
            table[column] = u.Quantity(values[:, i, j], feature.unit)
            fraction = f" ({request.containment_fraction:.0%})" if name == "psf-radius" else ""
            table[column].info.description = f"{feature.description}{fraction} at {label}"
    table["notes"] = Column(
        [row.note for row in rows], dtype=str, description="Why values are missing or doubtful"
    )
    position = request.position
    table.meta.update(
        names=list(request.names),
        energy_true=[f"{energy.value:g} {energy.unit}" for energy in energies],
        position=position and {"ra": position[0], "dec": position[1], "unit": "deg"},
        fixed_offset=request.fixed_offset and f"{request.fixed_offset:g} deg",
        containment_fraction=request.containment_fraction,
        obscluster=__version__,
    )
    return table


def _warn_of_skipped(observations: Sequence[Observation], rows: Sequence[_Row]) -> None:
    skipped = [
        f"run {obs.obs_id} {row.note}"
        for obs, row in zip(observations, rows, strict=True)
        if row.skipped
    ]
    if skipped:
        more = f"; and {len(skipped) - 5} more" if len(skipped) > 5 else ""
        text = f"{len(skipped)} of {len(rows)} runs: {'; '.join(skipped[:5])}{more}"
        warnings.warn(text, SkippedRunWarning, stacklevel=3)
