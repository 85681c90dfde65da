"""Responses of runs against energy: what a report draws over each other.

The definitions are those of the features of the same names, evaluated at more energies.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from numpy.typing import ArrayLike, NDArray

from obscluster.archive.observation import Observation
from obscluster.exceptions import DataError, RequestError, SkippedRunWarning
from obscluster.features.table import get_features
from obscluster.parallel.engine import Engine

__all__ = ["CURVES", "MOST_RUNS", "IrfCurves", "irf_curves", "sample_of_groups"]

CURVES = ("aeff", "psf-r68", "edisp-res68")
"""Features that are taken against energy."""
MOST_RUNS = 300
"""Of more runs, a sample is taken."""

_N_ENERGIES = 30
# Where the effective area is smaller than this part of its largest, nobody measures anything, and
# containment radii and resolutions are those of a handful of simulated events.
_LEAST_AREA = 1e-2


@dataclass(frozen=True, eq=False)
class IrfCurves:
    """Responses of runs against true energy.

    Parameters
    ----------
    energy : `~numpy.ndarray`
        In TeV, shape (n_energies,).
    rows : `~numpy.ndarray`
        Which of the observations these are, shape (n_curves,).
    values : mapping
        Feature to its curves, shape (n_curves, n_energies); NaN where there is no value.
    units : mapping
        Feature to its unit, as text.
    n_obs : int
        Observations from which these were taken.
    unreadable : int
        Runs whose files could not be read.
    """

    energy: NDArray[np.float64]
    rows: NDArray[np.intp]
    values: Mapping[str, NDArray[np.float64]]
    units: Mapping[str, str]
    n_obs: int
    unreadable: int = 0

    def means(self, name: str, labels: ArrayLike) -> dict[int, NDArray[np.float64]]:
        """Mean curve of each group, where at least half of its runs have a value.

        Parameters
        ----------
        name : str
            One of `CURVES`.
        labels : array_like of int
            Group of each observation, not only of those that are drawn, shape (n_obs,); runs of no
            group have no mean.

        Returns
        -------
        means : dict
            Label to curve, shape (n_energies,).
        """
        of_curves = np.asarray(labels)[self.rows]
        means = {}
        for label in np.unique(of_curves[of_curves > 0]).tolist():
            members = self.values[name][of_curves == label]
            known = np.isfinite(members)
            total = np.where(known, members, 0.0).sum(axis=0)
            number = known.sum(axis=0)
            mean = np.divide(total, number, out=np.full(len(total), np.nan), where=number > 0)
            means[label] = np.where(2 * number >= len(members), mean, np.nan)
        return means


def irf_curves(
    observations: Sequence[Observation],
    labels: ArrayLike,
    position: SkyCoord | None = None,
    fixed_offset: Any = None,
    most: int = MOST_RUNS,
    engine: Engine | None = None,
    progress: Callable[[Iterable[Any], int], Iterable[Any]] | None = None,
) -> IrfCurves:
    """Effective area, PSF radius and energy resolution of runs against true energy.

    Parameters
    ----------
    observations : sequence of `~obscluster.archive.observation.Observation`
        The runs.
    labels : array_like of int
        Their groups, shape (n_obs,): each is represented in a sample.
    position, fixed_offset
        Where in the field of view, see `~obscluster.features.table.get_features`.
    most : int
        Of more runs, a sample is taken; the same one each time.
    engine : optional
        Anything with ``map``, see `obscluster.parallel.engine`.
    progress : callable, optional
        ``progress(iterable, total)`` wraps the loop over runs.

    Returns
    -------
    curves : `IrfCurves`
        Runs in the order of the observations.

    Raises
    ------
    RequestError
        If no run has a readable effective area, from which the energies are taken.
    """
    labels = np.asarray(labels, dtype=np.int64)
    rows = sample_of_groups(labels, most)
    sample = [observations[row] for row in rows.tolist()]
    energies = [f"{energy:.4g} TeV" for energy in _energies(sample)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkippedRunWarning)
        table = get_features(
            sample,
            CURVES,
            energies,
            position=position,
            fixed_offset=fixed_offset,
            engine=engine,
            progress=None if progress is None else lambda results: progress(results, len(sample)),
        )
    # Requests come energy by energy within each feature, in the order asked.
    columns = {n: [c for c in table.meta["names"] if c.startswith(f"{n}@")] for n in CURVES}
    units = {name: str(table[columns[name][0]].unit or "") for name in CURVES}
    values = {
        name: np.column_stack([u.Quantity(table[column]).value for column in columns[name]])
        for name in CURVES
    }
    area = values["aeff"]
    largest = np.nanmax(np.nan_to_num(area), axis=1, initial=0.0)[:, np.newaxis]
    sees = area > _LEAST_AREA * largest
    values = {name: np.where(sees, value, np.nan) for name, value in values.items()}
    seen = sees.any(axis=0)
    unreadable = sum(str(note).startswith("skipped") for note in table["notes"])
    energy = np.array([u.Quantity(text).to_value(u.TeV) for text in energies])
    return IrfCurves(
        energy[seen],
        rows,
        {name: value[:, seen] for name, value in values.items()},
        units,
        len(observations),
        unreadable,
    )


def sample_of_groups(labels: ArrayLike, most: int) -> NDArray[np.intp]:
    """Rows of at most so many runs, evenly spread over each group.

    Parameters
    ----------
    labels : array_like of int
        Group of each run, shape (n_obs,).
    most : int
        How many; each group has the share of it that it has of all runs, but three at least.

    Returns
    -------
    rows : `~numpy.ndarray`
        In rising order; all of them if there are no more.
    """
    labels = np.asarray(labels)
    if len(labels) <= most:
        return np.arange(len(labels))
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        number = min(max(3, int(most * len(members) / len(labels))), len(members))
        chosen.append(members[np.linspace(0, len(members) - 1, number).astype(np.intp)])
    return np.sort(np.concatenate(chosen))


def _energies(sample: Sequence[Observation]) -> NDArray[np.float64]:
    """Energies over the effective area of the first run that has one, in TeV."""
    reason = "there are no runs"
    for observation in sample:
        try:
            area = observation.read_irfs("aeff").get("aeff")
        except DataError as error:
            reason = str(error)
            continue
        if area is None:
            reason = f"run {observation.obs_id} has no effective area"
            continue
        center = area.axes["energy_true"].center
        if len(center) > 1:
            return np.geomspace(center[0], center[-1], _N_ENERGIES)
        reason = f"the effective area of run {observation.obs_id} has a single energy"
    raise RequestError(f"no responses against energy: {reason}")
