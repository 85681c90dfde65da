"""What a referee asks of a joint fit.

Whether there is a source at all, and else the upper limit; whether the model describes the counts;
whether the groups, each fitted alone, agree; and whether the flux is constant. What cannot be found
out is left out with its reason, and never costs the fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable, Table, vstack
from astropy.time import Time
from gammapy.datasets import Datasets
from gammapy.estimators import LightCurveEstimator
from gammapy.modeling import Fit
from gammapy.modeling.models import Models
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import chi2

from obscluster.exceptions import RequestError, join_lines, printable
from obscluster.reduction.fit import (
    JointFit,
    fitted_energies,
    instruments_of,
    parameter_text,
    run_fit,
    with_one_source,
)
from obscluster.reduction.geometry import fitted_mask, has_off, is_map, is_spectrum
from obscluster.reduction.goodness import constancy, goodness_table, ratio_test
from obscluster.reduction.messages import captured
from obscluster.reduction.models import (
    SOURCE_NAME,
    FitDatasets,
    set_starting_amplitude,
    source_models,
    source_of,
    sources,
)
from obscluster.reduction.stack import describe_deviation

__all__ = ["Examination", "examine", "light_curve", "nights", "optional"]

# Below this probability, chance is not the explanation.
_UNLIKELY = 0.01
# Sources of fewer sigma get an upper limit.
_DETECTED = 3.0
# One-sided, 95 %: chi-square of one degree of freedom at twice the remaining 5 %.
_LIMIT = float(chi2.isf(0.1, 1))
_SHOWN = 10


@dataclass(frozen=True, eq=False)
class Examination:
    """A joint fit, and what is to be said of it.

    Parameters
    ----------
    fit : `~obscluster.reduction.fit.JointFit`
        The fit; if the spectrum of a source that is not significant cannot be found, that with its
        shape and place fixed.
    detection : mapping
        ``significance``, ``ts``, ``dof``, and below 3 sigma ``upper_limit`` with what is ``fixed``.
    goodness : `~astropy.table.QTable` or None
        See `~obscluster.reduction.goodness.goodness_table`.
    alone : `~astropy.table.Table` or None
        The source's free parameters of each dataset fitted alone: ``dataset``, ``name``, ``value``,
        ``error``, ``unit``, ``statistic``, ``n_bins``, ``free`` ("all", or "amplitude" where all
        cannot be found).
    agreement : mapping
        ``gain``, ``dof`` and ``p_value`` of the datasets apart against the joint fit; ``flux`` and
        ``shape`` with the same, if they disagree: a normalisation for each, and the rest.
    variability : mapping
        Tests by run and by night, see `~obscluster.reduction.examination.light_curve`.
    light_curve : `~astropy.table.Table` or None
        Flux against time.
    deviations : mapping
        Name of a group whose runs are there to how far it predicts other than they do, with the
        fitted source, see `~obscluster.reduction.stack.deviations`.
    twice : int
        Number of runs whose events are in several datasets.
    left_out : dict
        What is not there, and why.
    """

    fit: JointFit
    detection: Mapping[str, Any] = field(default_factory=dict)
    goodness: QTable | None = None
    alone: Table | None = None
    agreement: Mapping[str, Any] = field(default_factory=dict)
    variability: Mapping[str, Any] = field(default_factory=dict)
    light_curve: Table | None = None
    deviations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    twice: int = 0
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def disagreements(self) -> list[str]:
        """What speaks against the fit; empty if nothing does."""
        lines = []
        if self.twice:
            lines.append(
                f"{self.twice} runs are in several of the reductions: their events count more than "
                "once, and errors are too small"
            )
        if self.agreement and self.agreement["p_value"] < _UNLIKELY:
            lines += self._apart()
        varies = {k: v for k, v in self.variability.items() if v["p_value"] < _UNLIKELY}
        if varies:
            texts = [f"{_p(test)} for {test['n_points']} {by}s" for by, test in varies.items()]
            lines.append(f"the flux is not constant: {', '.join(texts)}")
        if self.goodness is not None:
            *each, together = self.goodness
            # One of many groups is unlikely by chance alone.
            bad = [row for row in each if row["p_value"] < _UNLIKELY / len(each)]
            if together["p_value"] < _UNLIKELY:
                lines.append(f"the model does not describe the counts: {_goodness(together)}")
            elif bad:
                names = ", ".join(f"{row['dataset']} ({_p(row)})" for row in bad)
                lines.append(f"the model does not describe the counts of {names}")
        return lines

    def _apart(self) -> list[str]:
        found = self.agreement
        text = f"the groups do not agree: {_p(found)} ({_ratio(found)})"
        lines = [f"{text}; the joint spectrum is that of none of them"]
        if "flux" in found:
            flux, shape = found["flux"], found["shape"]
            what = "then agree" if shape["p_value"] >= _UNLIKELY else "do not agree either"
            lines.append(
                f"  a normalisation per group is better by {flux['gain']:.1f} ({_p(flux)}); the "
                f"spectral shapes {what} ({_p(shape)})"
            )
        return lines + self._alone()

    def _alone(self) -> list[str]:
        if self.alone is None:
            return []
        names = list(dict.fromkeys(self.alone["dataset"]))
        lines = []
        for name in names[:_SHOWN]:
            rows = self.alone[self.alone["dataset"] == name]
            texts = [parameter_text(*(r[n] for n in _PARAMETER)) for r in rows]
            lines.append(f"  {name} alone: {', '.join(texts)}")
        more = len(names) - _SHOWN
        return [*lines, *([f"  and {more} more, see groups_alone.ecsv"] if more > 0 else [])]

    @property
    def verdict(self) -> list[str]:
        """What comes first: disagreement, or that there is none; and the source, if it is weak."""
        lines = self.disagreements
        if not lines:
            agree = []
            if self.agreement:
                agree.append(f"the groups agree ({_p(self.agreement)})")
            if self.goodness is not None:
                agree.append(f"the model describes the counts ({_p(self.goodness[-1])})")
            texts = [f"{v['n_points']} {by}s: {_p(v)}" for by, v in self.variability.items()]
            agree += [f"the flux is constant ({', '.join(texts)})"] if texts else []
            lines = ["; ".join(agree)] if agree else []
        return lines + self._limit()

    def _limit(self) -> list[str]:
        found = self.detection
        if "upper_limit" not in found:
            return []
        unit = u.Unit(found["unit"]).to_string("fits")
        limit = f"amplitude < {found['upper_limit']:.3g} {unit} (95 %, one-sided, {found['fixed']})"
        return [f"no significant source: {found['significance']:.1f} sigma; {limit}"]

    def __str__(self) -> str:
        lines = [*self.verdict]
        if "upper_limit" not in self.detection:
            lines += ["", *str(self.fit).splitlines()]
        else:
            lines += [f"  {self.fit.config.model}, {self.fit.n_bins} bins"]
            if not self.fit.success:
                lines.append(f"  not converged: {self.fit.message}")
        if "significance" in self.detection and "upper_limit" not in self.detection:
            lines.append(f"  source: {_sigma(self.detection['significance'])}")
        if self.goodness is not None:
            lines += [f"  {row['dataset']}: {_goodness(row)}" for row in self._goodness_rows()]
        if not self.disagreements:
            lines += self._alone()
        lines += [
            f"  {name} {describe_deviation({'fitted': found})}"
            for name, found in list(self.deviations.items())[:_SHOWN]
        ]
        lines += [f"  left out: {what}: {why}" for what, why in self.left_out.items()]
        return join_lines(lines)

    def _goodness_rows(self) -> list[Any]:
        rows = [] if self.goodness is None else list(self.goodness)
        return rows if len(rows) <= _SHOWN else rows[-1:]


_PARAMETER = ("name", "value", "error", "unit")


def _p(found: Any) -> str:
    """A probability; that of experiments cannot be less than one of them."""
    value = float(found["p_value"])
    n = int(found["n_experiments"]) if "n_experiments" in _keys(found) else 0
    if n and value <= 1 / (1 + n):
        return f"p < {1 / n:.1g}"
    return f"p = {value:.2g}" if value > 1e-300 else "p < 1e-300"


def _keys(found: Any) -> Sequence[str]:
    return found.colnames if hasattr(found, "colnames") else list(found)


def _goodness(row: Any) -> str:
    how = f" from {row['n_experiments']} pseudo-experiments" if row["n_experiments"] else ""
    return (
        f"statistic {row['statistic']:.1f} for {row['dof']:.1f} degrees of freedom, {_p(row)}{how}"
    )


def _ratio(found: Mapping[str, Any]) -> str:
    return f"likelihood ratio {found['gain']:.1f}, {found['dof']} degrees of freedom"


def _sigma(value: float) -> str:
    return f"{value:.1f} sigma" if value < _MOST_SIGMA else f"more than {_MOST_SIGMA} sigma"


# Where probabilities end that numbers can hold.
_MOST_SIGMA = 37


def examine(
    fit: JointFit, position: SkyCoord | None = None, instruments: Mapping[str, str] | None = None
) -> Examination:
    """Look at a joint fit as a referee does: detection, goodness, agreement.

    Parameters
    ----------
    fit : `~obscluster.reduction.fit.JointFit`
        The fit; it is left as it is.
    position : `~astropy.coordinates.SkyCoord`, optional
        The target, for maps.
    instruments : mapping, optional
        Name of each dataset to its instrument.

    Returns
    -------
    examination : `Examination`
        What was found.
    """
    left_out: dict[str, str] = {}
    instruments = instruments or instruments_of(fit.datasets)
    found = Examination(fit)
    with captured():
        with optional("significance", left_out):
            fit, detection = _detection(fit, position, instruments)
            found = replace(found, fit=fit, detection=detection)
        with optional("goodness of fit", left_out):
            table = goodness_table(fit.datasets, fit.config.random_state)
            found = replace(found, goodness=table)
        if len(fit.datasets) > 1:
            with optional("fits of each group alone", left_out):
                alone, agreement = _agreement(fit, position, instruments)
                found = replace(found, alone=alone, agreement=agreement)
    return replace(found, left_out=left_out)


@contextmanager
def optional(what: str, left_out: dict[str, str]) -> Iterator[None]:
    """Work that never costs the fit: if it fails, the reason goes into ``left_out``."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 the engine raises anything
        left_out[what] = printable(f"{type(error).__name__}: {error}")


def _detection(
    fit: JointFit, position: SkyCoord | None, instruments: Mapping[str, str]
) -> tuple[JointFit, dict[str, Any]]:
    """Significance of the source, and what is known if there is none."""
    datasets = FitDatasets([dataset.copy(name=dataset.name) for dataset in fit.datasets])
    plain = fit.config.model_copy(update={"normalisation": "shared", "parameters": "shared"})
    others = [m.copy(name=m.name) for m in fit.models if m not in sources(fit.models)]
    datasets.models = Models([*source_models(plain, position, datasets, instruments), *others])
    for model in sources(datasets.models):
        model.parameters.freeze_all()
    amplitude = sources(datasets.models)[0].spectral_model.amplitude
    start, amplitude.value = amplitude.value, 0.0
    null = _minimum(datasets)
    free = len(_free_parameters(fit.models))
    ts = null - fit.stat
    significance = _equivalent(ts, max(1, free))
    values = [m.spectral_model.amplitude.value for m in sources(fit.models)]
    if max(values) < 0:
        significance = -significance
    result = {"significance": significance, "ts": ts, "dof": free}
    if fit.success and significance >= _DETECTED:
        return fit, result
    # The shape of a source that is not seen is anything: only its flux is left.
    amplitude.value, amplitude.frozen = start, False
    set_starting_amplitude(datasets)
    fixed = run_fit(plain, datasets, fit.messages)
    fixed_ts = null - fixed.stat
    one = float(np.sign(amplitude.value) * np.sqrt(max(0.0, fixed_ts)))
    if not fit.success and abs(one) >= _DETECTED:
        # It is there, and its spectrum was not found: that is for the user to mend.
        return fit, result | {"significance": one, "ts": fixed_ts, "dof": 1}
    shape = sources(datasets.models)[0].spectral_model
    named = [
        f"{p.name} {p.value:g}"
        for p in shape.parameters
        if p.name not in ("amplitude", "reference")
    ]
    # Amplitude above the best one, or zero, at which the profile has risen by that of 95 %.
    best, error = amplitude.value, abs(amplitude.error)
    amplitude.frozen = True

    def stat(value: float) -> float:
        amplitude.value = value
        return _minimum(datasets)

    # Without counts the minimum is at no flux, where a minimiser does not get to.
    nothing = stat(0.0)
    low = best if best > 0 and fixed.stat < nothing else 0.0
    target = (fixed.stat if low else nothing) + _LIMIT
    step = error if np.isfinite(error) and error > 0 else abs(best) or 1e-14
    high = low + 2 * step
    for _ in range(60):
        if stat(high) > target:
            break
        high = low + 2 * (high - low)
    limit = float(brentq(lambda value: stat(value) - target, low, high, xtol=1e-5 * high))
    amplitude.value, amplitude.frozen = best, False
    content = {
        "significance": one,
        "ts": fixed_ts,
        "dof": 1,
        "upper_limit": limit,
        "unit": str(amplitude.unit),
        "fixed": f"{', '.join(named)} fixed, at {shape.reference.value:g} {shape.reference.unit}",
    }
    if fit.success:
        return fit, content
    return replace(fixed, seconds=fit.seconds + fixed.seconds), content


def _free_parameters(models: Models) -> list[Any]:
    """Free parameters of the source, each once."""
    found = {id(p): p for m in sources(models) for p in m.parameters if not p.frozen}
    return list(found.values())


def _equivalent(ts: float, dof: int) -> float:
    """Sigma of a Gaussian with the probability of a test statistic."""
    if ts <= 0:
        return 0.0
    p = float(chi2.sf(ts, dof))
    return float(np.sqrt(chi2.isf(p, 1))) if p > 0 else float(np.sqrt(ts))


def _minimum(datasets: Datasets) -> float:
    """The statistic, with what is free at its best."""
    if len(datasets.models.parameters.free_unique_parameters):
        Fit().optimize(datasets)
    return float(datasets.stat_sum())


def _agreement(
    fit: JointFit, position: SkyCoord | None, instruments: Mapping[str, str]
) -> tuple[Table, dict[str, Any]]:
    """Each dataset fitted alone, and whether that is better than chance allows."""
    rows: list[tuple[Any, ...]] = []
    stats, n_free = [], 0
    for dataset in fit.datasets:
        alone, free = _fit_alone(fit, dataset)
        stats.append(alone.stat)
        n_free += alone.n_free
        of = (alone.stat, alone.n_bins, free)
        rows += [
            (dataset.name, p.name, float(p.value), float(p.error), str(p.unit), *of)
            for p in source_of(alone.models, dataset.name).parameters
            if not p.frozen
        ]
    names = ["dataset", *_PARAMETER, "statistic", "n_bins", "free"]
    table = Table(rows=rows, names=names)
    dof = n_free - fit.n_free
    if dof <= 0:
        return table, {}
    found = _test(fit.stat, stats, dof)
    if found["p_value"] < _UNLIKELY and fit.config.normalisation == "shared":
        between = _per_group(fit, position, instruments)
        more = between.n_free - fit.n_free
        if between.success and 0 < more < dof:
            found["flux"] = _test(fit.stat, [between.stat], more)
            found["shape"] = _test(between.stat, stats, dof - more)
    return table, found


def _test(joint: float, apart: Sequence[float], dof: int) -> dict[str, Any]:
    gain, p_value = ratio_test(joint, apart, dof)
    return {"gain": gain, "dof": dof, "p_value": p_value}


def _fit_alone(fit: JointFit, dataset: Any) -> tuple[JointFit, str]:
    """A dataset fitted alone from the joint minimum; only its amplitude if all cannot be found."""
    tries: tuple[tuple[str, Callable[[Any], bool]], ...] = (
        ("all", lambda parameter: parameter.frozen),
        ("amplitude", lambda parameter: parameter.frozen or parameter.name != "amplitude"),
    )
    for free, frozen in tries:
        one = FitDatasets([dataset.copy(name=dataset.name)])
        source = source_of(fit.models, dataset.name).copy(name=SOURCE_NAME)
        source.datasets_names = None
        for parameter in source.parameters:
            parameter.frozen = frozen(parameter)
        others = [
            m.copy(name=m.name)
            for m in fit.models
            if m not in sources(fit.models) and dataset.name in (m.datasets_names or ())
        ]
        one.models = Models([source, *others])
        alone = run_fit(fit.config, one, {})
        errors = [p.error for p in one.models.parameters if not p.frozen]
        if alone.success and alone.n_bins >= alone.n_free and np.isfinite(errors).all():
            return alone, free
    raise ValueError(f"{dataset.name} alone cannot be fitted: {alone.message}")


def _per_group(
    fit: JointFit, position: SkyCoord | None, instruments: Mapping[str, str]
) -> JointFit:
    """The fit with a normalisation for each dataset, from where the joint fit ended."""
    config = fit.config.model_copy(update={"normalisation": "per-group"})
    datasets = FitDatasets([dataset.copy(name=dataset.name) for dataset in fit.datasets])
    others = [m.copy(name=m.name) for m in fit.models if m not in sources(fit.models)]
    models = source_models(config, position, datasets, instruments)
    for model in models:
        known = source_of(fit.models, model.datasets_names[0]).parameters
        for parameter in model.parameters:
            parameter.value = known[parameter.name].value
    datasets.models = Models([*models, *others])
    return run_fit(config, datasets, {})


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
