"""Flux per run or per night, and whether it is constant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table, vstack
from astropy.time import Time
from gammapy.datasets import Datasets
from gammapy.estimators import LightCurveEstimator
from gammapy.modeling.models import Models
from numpy.typing import NDArray

from obscluster.exceptions import RequestError
from obscluster.reduction.fit import JointFit
from obscluster.reduction.geometry import fitted_mask, has_off, is_map, is_spectrum
from obscluster.reduction.goodness import constancy
from obscluster.reduction.models import SOURCE_NAME, source_of
from obscluster.reduction.tables import fitted_energies, with_one_source

__all__ = ["light_curve", "nights"]


def light_curve(
    runs: Datasets,
    fit: JointFit,
    groups: Mapping[str, str],
    position: SkyCoord,
    radius: u.Quantity,
    by: str = "run",
    workers: int = 1,
) -> tuple[Table, dict[str, Any]]:
    """Flux of each run or night, of the spectrum that was fitted, and a test whether it is one.

    Parameters
    ----------
    runs : `gammapy.datasets.Datasets`
        Datasets of the runs in the energies of the fit, with the models of their background.
    fit : `~obscluster.reduction.fit.JointFit`
        The fit.
    groups : mapping
        Name of each run's dataset to that of its group in the fit.
    position : `~astropy.coordinates.SkyCoord`
        The target.
    radius : `~astropy.units.Quantity`
        What is counted around it on maps, for the test.
    by : str
        "run" or "night".
    workers : int
        Number of processes.

    Returns
    -------
    table : `~astropy.table.Table`
        ``time_min``, ``time_max`` (MJD), ``runs``, ``e_min``, ``e_max``, ``flux``, ``flux_err``,
        ``flux_ul``, ``sqrt_ts`` and more, as Gammapy's `LightCurveEstimator` has them.
    variability : dict
        "run" and "night", as far as there are several, to the test of each, whatever the table is
        by: see `~obscluster.reduction.goodness.constancy`, with ``n_points``.
    """
    runs = Datasets([run for run in runs if fitted_mask(run).any()])
    if not len(runs):
        raise RequestError("no run has bins within the energies of the fit")
    times = np.array([[run.gti.time_start[0].tt.mjd, run.gti.time_stop[-1].tt.mjd] for run in runs])
    spans = nights(times) if by == "night" else np.arange(len(runs))
    tables = []
    # Runs of groups with a spectrum of their own are multiples of it; so are those of each axis.
    owners = [_owner(run, fit.models, groups) for run in runs]
    for owner in dict.fromkeys(owners):
        mine = [i for i, other in enumerate(owners) if other == owner]
        part = [runs[i] for i in mine]
        models = _renamed(fit.models, groups[part[0].name], part)
        copies = with_one_source(Datasets(part), models)
        members = [[i for i in mine if spans[i] == span] for span in np.unique(spans[mine])]
        intervals = [(times[m, 0].min(), times[m, 1].max()) for m in members]
        order = np.argsort([start for start, _ in intervals], kind="stable")
        edges = fitted_energies(copies)
        estimator = LightCurveEstimator(
            time_intervals=[Time(intervals[k], format="mjd", scale="tt") for k in order],
            energy_edges=edges[[0, -1]],
            source=SOURCE_NAME,
            selection_optional=["ul"],
            n_jobs=workers,
            atol="1 s",
            stack_over_time_interval=by == "night",
        )
        # Times are those of the intervals, but for rounding.
        table = estimator.run(copies).to_table(sed_type="flux", format="lightcurve")
        names = [" ".join(runs[i].name.removeprefix("run_") for i in members[k]) for k in order]
        table.add_column(names, 2, name="runs")
        tables.append(_flat(table))
    found = vstack(tables, metadata_conflicts="silent")
    found.sort("time_min")
    seed = fit.config.random_state
    tests = {}
    for name, where in (("run", np.arange(len(runs))), ("night", nights(times))):
        if len(np.unique(where)) > 1:
            counts = _counts(runs, fit, groups, where, position, radius)
            tests[name] = {
                "n_points": len(np.unique(where)),
                **constancy(**counts, random_state=seed),
            }
    return found, tests


def _owner(run: Any, models: Models, groups: Mapping[str, str]) -> tuple[Any, ...]:
    amplitude = source_of(models, groups[run.name]).spectral_model.amplitude
    axis = run.counts.geom.axes["energy"]
    return id(amplitude), is_spectrum(run), tuple(np.round(np.log(axis.edges.value), 6))


def _renamed(models: Models, group: str, runs: list[Any]) -> Models:
    """The source of a group, and the backgrounds of the runs themselves."""
    source = source_of(models, group).copy(name=SOURCE_NAME)
    source.datasets_names = None
    backgrounds = [m for run in runs for m in (run.models or []) if m.name == f"{run.name}-bkg"]
    return Models([source, *(m.copy(name=m.name) for m in backgrounds)])


def _flat(table: Table) -> Table:
    """One number per row: Gammapy has one per energy, and one per dataset."""
    for name in list(table.colnames):
        if table[name].ndim > 2 or name in ("stat_scan", "norm_scan"):
            table.remove_column(name)
        elif table[name].ndim == 2:
            table[name] = table[name][:, 0]
    return table


def nights(times: NDArray[np.float64]) -> NDArray[np.int64]:
    """Number of the night of each run.

    Nights are parted at the middle of the longest time of day at which there never is a run, which
    is daylight wherever the telescope stands.

    Parameters
    ----------
    times : array
        Begin and end of each run in MJD, shape (n_runs, 2).
    """
    middle = times.mean(axis=1)
    day = np.sort(middle % 1)
    gaps = np.append(day[1:], day[0] + 1) - day
    i = int(np.argmax(gaps))
    noon = (day[i] + gaps[i] / 2) % 1
    return np.floor(middle - noon).astype(np.int64)


def _counts(
    runs: Datasets,
    fit: JointFit,
    groups: Mapping[str, str],
    spans: NDArray[np.int64],
    position: SkyCoord,
    radius: u.Quantity,
) -> dict[str, Any]:
    """Counts and prediction of each span of time, summed over energies."""
    rows = []
    for run in runs:
        models = _renamed(fit.models, groups[run.name], [run])
        copy = run.copy(name=run.name)
        copy.models = models
        mask = fitted_mask(copy)
        if is_map(copy):
            mask = mask & (copy.counts.geom.separation(position) < radius)
        signal = float(copy.npred_signal().data[mask].sum())
        n_on = float(copy.counts.data[mask].sum())
        if has_off(copy):
            off = float(copy.counts_off.data[mask].sum())
            expected = float(np.nansum(copy.background.data[mask]))
            alpha = expected / off if off else float(np.nanmean(copy.alpha.data[mask]))
            rows.append((n_on, signal, off, alpha * off, alpha))
        else:
            rows.append((n_on, signal, 0.0, float(copy.npred_background().data[mask].sum()), 0.0))
    values = np.array(rows)
    places = np.unique(spans, return_inverse=True)[1]
    sums = [np.bincount(places, weights=column) for column in values.T]
    counts, signals, offs, backgrounds, alphas = sums
    if not alphas.any():
        return {"n_on": counts, "signal": signals, "background": backgrounds}
    mean = alphas / np.bincount(places)
    scale = np.divide(backgrounds, offs, out=mean, where=offs > 0)
    return {"n_on": counts, "signal": signals, "n_off": offs, "alpha": scale}
