"""What a description needs to know of an archive."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from numpy.typing import NDArray

from obscluster.archive.kinds import Kind, kind_of, settled
from obscluster.archive.quantities import column_of
from obscluster.characterise import default_features
from obscluster.exceptions import DataError, ObsClusterWarning, RequestError
from obscluster.features.table import get_features
from obscluster.obs_table import ObservationTable
from obscluster.selection import pointing
from obscluster.store import DataStore
from obscluster.target import resolve_target, target_names

__all__ = ["MANY_RUNS", "ArchiveFacts", "look_at", "mean_pointing", "nice"]

# So many runs are looked at, evenly over the archive.
_LOOKED_AT = 20
_FEWEST_RUNS = 4
_MOST_TARGETS = 6
# In the order of what groups are mostly made by; the second are for archives with one response.
_RESPONSES = ("psf-r68", "edisp-res68", "aeff", "bkg-rate")
_CONDITIONS = ("zenith", "muoneff", "nsb", "event-rate", "n-tels")
_MOST_FEATURES = 3
# What varies less does not tell runs apart.
_VARIES = 0.02
_NICE = np.array([1.0, 2.0, 5.0])
MANY_RUNS = 2000
"""For more runs than these, trying all numbers of groups takes long."""


@dataclass(frozen=True, eq=False)
class ArchiveFacts:
    """What a description needs to know of an archive.

    Parameters
    ----------
    data_store : `~obscluster.store.DataStore`
        The archive.
    names : dict
        Names of targets to their numbers of runs, most first.
    target : str or None
        The one of these that has most runs around it, with coordinates.
    obs_table : `~obscluster.obs_table.ObservationTable`
        The runs around it, or all.
    energy : str
        An energy in the middle of what the responses cover.
    limits : tuple of str
        The range that they cover.
    features : list of str
        What tells the runs apart.
    within : list of str
        Columns whose values should not be mixed.
    kind : `~obscluster.archive.kinds.Kind`
        What most of the runs that were looked at are.
    has_background : bool
        Whether all of these have a background response.
    psf_radius : float
        In degrees: how far 68 % of their PSF reach at the energy; NaN where nobody knows.
    offset : float
        In degrees: median distance of their pointings from the target; NaN without one.
    verified : bool
        Whether livetimes are those of the good time intervals, rather than of the index.
    """

    data_store: DataStore
    names: dict[str, int]
    target: str | None
    obs_table: ObservationTable
    energy: str
    limits: tuple[str, str]
    features: list[str]
    within: list[str]
    kind: Kind
    has_background: bool
    psf_radius: float
    offset: float
    verified: bool = False

    @property
    def n_obs(self) -> int:
        """Number of runs."""
        return len(self.obs_table)

    @property
    def hours(self) -> float:
        """Their live time."""
        return float(np.nansum(self.livetimes_of(self.obs_table)))

    def livetimes_of(self, table: ObservationTable) -> NDArray[np.float64]:
        """Live times in hours, by the index or, if they are verified, by the good time."""
        known = column_of(table, "livetime", files=self.verified)
        return np.asarray(known.value.to_value(u.h))


def look_at(data_store: DataStore, verify: bool = False) -> ArchiveFacts:
    """Look at the index, and at the responses of a few runs."""
    names = target_names(data_store.obs_table)
    target, obs_table = _target(data_store.obs_table, names)
    rows = np.unique(
        np.linspace(0, len(obs_table) - 1, min(len(obs_table), _LOOKED_AT)).astype(int)
    )
    observations = list(data_store.get_observations(obs_table[rows], skip_missing=True))
    energy, limits = _energies(observations)
    position = None if target is None else resolve_target(data_store.obs_table, target).position
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ObsClusterWarning)
        about = get_features(observations, ["psf-r68", "offset"], energy, position)
    kinds = Counter(settled([kind_of(obs.passing()) for obs in observations]))
    return ArchiveFacts(
        data_store=data_store,
        names=names,
        target=target,
        obs_table=obs_table,
        energy=energy,
        limits=limits,
        features=_features(obs_table, observations, energy, position),
        within=[name for name in ("N_TELS", "EPOCH") if _is_category(obs_table, name)],
        kind=kinds.most_common(1)[0][0] if kinds else Kind(),
        has_background=all("bkg" in obs.available_irfs for obs in observations),
        psf_radius=_median(about["psf-r68"]),
        offset=float("nan") if position is None else _median(about["offset"]),
        verified=verify,
    )


def _target(table: ObservationTable, names: Iterable[str]) -> tuple[str | None, ObservationTable]:
    """The target with most runs around it, and these; none and all runs, if there is no such."""
    for name in list(names)[:_MOST_TARGETS]:
        try:
            target = resolve_target(table, name)
            selected = table.select_observations(dict(target.selection))
        except RequestError:
            continue
        if len(selected) >= _FEWEST_RUNS:
            return name, selected
    return None, table


def _energies(observations: Sequence[Any]) -> tuple[str, tuple[str, str]]:
    """An energy in the middle of what the responses cover, near 1 TeV, and a range."""
    low, high = 0.1, 100.0
    with warnings.catch_warnings():
        # Only a few runs are looked at; what cannot be read is told when they are used.
        warnings.simplefilter("ignore", ObsClusterWarning)
        table = get_features(observations, ["aeff-threshold"]) if observations else QTable()
    for obs in observations:
        try:
            axis = None if obs.aeff is None else obs.aeff.axes.get("energy_true")
        except DataError:
            continue
        if axis is not None:
            low, high = float(axis.center[0]), float(axis.center[-1])
            break
    if len(table):
        thresholds = table["aeff-threshold"].to_value(u.TeV)
        if np.isfinite(thresholds).any():
            low = max(low, float(np.nanmedian(thresholds)))
    low, high = nice(low), nice(high * 1.001)
    best = min(max(1.0, 3 * low), high / 3)
    return _energy_text(nice(best * 1.001)), (_energy_text(low), _energy_text(high))


def _median(values: u.Quantity) -> float:
    """Median of angles in degrees; NaN if none is known."""
    found = values.to_value(u.deg)
    found = found[np.isfinite(found)]
    return float(np.median(found)) if len(found) else float("nan")


def nice(value: float) -> float:
    """The next lower of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(value))
    steps = _NICE[_NICE * power <= value]
    return float(f"{(steps[-1] if len(steps) else 1.0) * power:.6g}")


def _energy_text(tev: float) -> str:
    return f"{tev * 1000:.6g} GeV" if tev < 0.1 else f"{tev:.6g} TeV"


def _features(
    obs_table: ObservationTable,
    observations: Sequence[Any],
    energy: str,
    position: SkyCoord | None,
) -> list[str]:
    """Features that tell the runs of an archive apart, those of `group` first."""
    found: list[str] = []
    for names in (default_features(obs_table), _RESPONSES, _CONDITIONS):
        if len(found) > 1 or not observations:
            break
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ObsClusterWarning)
            table = get_features(observations, list(names), energy=energy, position=position)
        varying = [name for name in names if _varies(np.asarray(table[name].value))]
        found += [name for name in varying if name not in found]
    return found[:_MOST_FEATURES] or ["livetime"]


def _varies(values: Any) -> bool:
    finite = values[np.isfinite(values)]
    if len(finite) < max(2, 0.9 * len(values)):
        return False
    return bool(np.ptp(finite) > _VARIES * np.abs(finite).max())


def _is_category(table: ObservationTable, name: str) -> bool:
    return name in table.colnames and len(np.unique(np.asarray(table[name]))) <= len(table) / 4


def mean_pointing(table: ObservationTable) -> str:
    """Where the runs point, on average, in degrees."""
    try:
        directions = pointing(table)
        directions = directions[np.isfinite(directions.ra.deg) & np.isfinite(directions.dec.deg)]
        mean = SkyCoord(directions.cartesian.mean(), frame="icrs").spherical
        return f"{mean.lon.deg:.3f} {mean.lat.deg:.3f}"
    except (RequestError, ValueError):
        return "83.633 22.014"
