"""What the grouping buys: the same fit with the runs apart, in groups, and all stacked."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from astropy import units as u
from astropy.table import Column, QTable, Table
from gammapy.datasets import Datasets

from obscluster.archive.kinds import make_kind, may_be_stacked
from obscluster.config.reduction import FitConfig, ReduceConfig, make_reduce_config
from obscluster.exceptions import RequestError, join_lines
from obscluster.files.output import results_directory
from obscluster.files.records import versions
from obscluster.parallel.engine import Progress
from obscluster.reduction.fit import JointFit, fit_datasets
from obscluster.reduction.geometry import empty_map_dataset, is_spectrum
from obscluster.reduction.messages import captured
from obscluster.reduction.models import sources
from obscluster.reduction.result import COMPARISON_FILE, Reduction, read_reduction
from obscluster.reduction.stack import with_exact_dispersion

__all__ = ["compare_groupings", "describe_comparison", "write_comparison"]

PER_RUN, PER_GROUP, STACKED = "per run", "per group", "all stacked"
# As `obscluster.workflow.assess` names what it compares.
_LOSSES = {PER_GROUP: "these groups", STACKED: "all stacked"}

# Gammapy's names of parameters to those of the source whose information is lost.
_PREDICTED = {"alpha": "index", "beta": "curvature", "sigma": "size"}

# What a prediction says, and how far it may be from the fit that it is for.
_PREDICTION = {"model", "index", "flux_at_1_TeV", "energy", "kind"}
_ENERGIES, _FLUX, _INDEX = 0.1, 1.5, 0.3

# With more bins than this without OFF counts, the profile likelihood (W statistic) is biased.
_MANY_EMPTY = 0.5


def compare_groupings(
    directory: str | os.PathLike[str] | Reduction,
    config: FitConfig | None = None,
    memory: bool = True,
    losses: Table | None = None,
    progress: Progress | None = None,
) -> QTable:
    """Fit the same model to the runs jointly, to the groups jointly, and to all runs stacked.

    Parameters
    ----------
    directory : str, path or `~obscluster.reduction.result.Reduction`
        A reduction that has the datasets of its runs.
    config : `~obscluster.config.reduction.FitConfig`, optional
        What to fit; as described when the groups were reduced unless told.
    memory : bool
        Measure the largest memory that a fit allocates; it is done a second time for that.
    losses : `~astropy.table.Table`, optional
        ``losses.ecsv`` of ``obscluster assess``: its predicted growths of errors go beside.
    progress : callable, optional
        ``progress(iterable, total, what)`` wraps the three fits.

    Returns
    -------
    table : `~astropy.table.QTable`
        One row each for "per run", "per group" and, if all may be stacked, "all stacked":
        ``grouping``, ``n_datasets``, ``n_bins``, each free parameter of the source with its
        ``<name> error``; ``<name> shift``, its change relative to the runs apart in units of the
        error of these; ``<name> inflation``, the growth of the error relative to the runs apart;
        ``empty_off``, the fraction of bins without OFF counts, where the statistic is biased;
        ``statistic``, ``success``, ``fit_time``, ``memory`` (NaN if not measured), ``disk``; and
        ``<name> predicted``, the predicted growth, if losses are given that were made for the same
        source, energies and kind of analysis. If they were not, ``meta["prediction"]`` says so.

    Raises
    ------
    RequestError
        If the runs were not kept, or there is nothing to fit.
    """
    reduction = directory if isinstance(directory, Reduction) else read_reduction(directory)
    settings = make_reduce_config(reduction.record["config"])
    config = settings.fit if config is None else config
    # Numbers of groups differ, and so would those of the parameters of groups of their own.
    config = config.model_copy(update={"normalisation": "shared", "parameters": "shared"})
    runs = reduction.read_runs()
    cases: dict[str, tuple[Callable[[], Datasets], int | None]] = {
        PER_RUN: (lambda: runs, _size(reduction, runs.names)),
        PER_GROUP: (reduction.read, _size(reduction, list(reduction.groups))),
    }
    if _is_one_kind(reduction):
        cases[STACKED] = (lambda: _stacked(reduction, settings), None)
    names: Iterable[str] = cases
    rows = []
    for name in names if progress is None else progress(names, len(cases), "fits"):
        read, size = cases[name]
        datasets = read()
        size = _written_size(datasets) if size is None else size
        fit = fit_datasets(datasets, config, reduction.position)
        peak = _peak(datasets, config, reduction) if memory else np.nan
        rows.append(_row(name, fit, size, peak))
    table = _with_inflation(rows)
    if losses is not None:
        why = _not_the_same(losses, settings, config, table)
        if why:
            table.meta["prediction"] = why
        else:
            _add_predictions(table, losses)
    return table


def _is_one_kind(reduction: Reduction) -> bool:
    """Whether all groups may be stacked, see `obscluster.archive.kinds`."""
    kinds = [make_kind(parts) for parts in reduction.record.get("kinds", {}).values()]
    return all(may_be_stacked(kind, other) for kind in kinds for other in kinds)


def _stacked(reduction: Reduction, config: ReduceConfig) -> Datasets:
    """All groups as one dataset."""
    with captured():
        groups = reduction.read()
        if config.stack == "exact":
            groups = Datasets([with_exact_dispersion(dataset) for dataset in groups])
        if is_spectrum(groups[0]):
            return Datasets([groups.stack_reduce(name="all")])
        whole = empty_map_dataset(config, reduction.position, "all")
        for dataset in groups:
            dataset.models = None
            whole.stack(dataset)
        return Datasets([whole])


def _size(reduction: Reduction, names: list[str]) -> int:
    """Bytes of the files of datasets."""
    files = [
        file
        for group in reduction.groups.values()
        for dataset in group["datasets"]
        if dataset["entry"]["name"] in names
        for file in dataset["files"]
    ]
    return sum((reduction.directory / file).stat().st_size for file in files)


def _written_size(datasets: Datasets) -> int:
    with TemporaryDirectory() as directory, captured():
        path = Path(directory)
        for dataset in datasets:
            dataset.write(path / dataset.to_dict()["filename"])
        return sum(file.stat().st_size for file in path.iterdir())


def _peak(datasets: Datasets, config: FitConfig, reduction: Reduction) -> float:
    """Bytes that a fit allocates at most, copies of the datasets included."""
    tracemalloc.start()
    try:
        fit_datasets(datasets, config, reduction.position)
        return float(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


def _row(name: str, fit: JointFit, size: int, peak: float) -> dict[str, Any]:
    row: dict[str, Any] = {
        "grouping": name,
        "n_datasets": len(fit.datasets),
        "n_bins": fit.n_bins,
    }
    for parameter in sources(fit.models)[0].parameters:
        if not parameter.frozen:
            row[parameter.name] = parameter.value * parameter.unit
            row[f"{parameter.name} error"] = parameter.error * parameter.unit
    return row | {
        "empty_off": _empty_off(fit.datasets),
        "statistic": fit.stat,
        "success": fit.success,
        "fit_time": fit.seconds * u.s,
        "memory": peak / 1e6 * u.Unit("MB"),
        "disk": size / 1e6 * u.Unit("MB"),
    }


def _empty_off(datasets: Datasets) -> float:
    """Fraction of the fitted bins without an OFF count; NaN for maps with a background model."""
    if not is_spectrum(datasets[0]):
        return float("nan")
    empty = [d.counts_off.data[d.mask.data] == 0 for d in datasets if d.counts_off is not None]
    return float(np.concatenate(empty).mean()) if empty else float("nan")


def _with_inflation(rows: list[dict[str, Any]]) -> QTable:
    table = QTable(rows=rows)
    for name in _parameters(table):
        value, error = table[name], table[f"{name} error"]
        place = table.colnames.index(f"{name} error") + 1
        growth = Column(u.Quantity(error / error[0]).to_value("") - 1)
        table.add_column(growth, place, f"{name} inflation")
        shift = Column(u.Quantity((value - value[0]) / error[0]).to_value(""))
        table.add_column(shift, place, f"{name} shift")
    return table


def _parameters(table: QTable) -> list[str]:
    return [n.removesuffix(" error") for n in table.colnames if n.endswith(" error")]


def _not_the_same(losses: Table, settings: ReduceConfig, config: FitConfig, table: QTable) -> str:
    """Why predicted losses are not those of these fits; empty if they are."""
    if "grouping" not in losses.colnames:
        raise RequestError(
            f"losses: has columns {', '.join(losses.colnames)}; expected losses.ecsv of "
            "`obscluster assess`"
        )
    made = losses.meta.get("prediction")
    if not isinstance(made, Mapping) or not set(made) >= _PREDICTION:
        return "it does not say for what it was made; run `obscluster assess` again"
    reasons = []
    if made["kind"] != settings.kind:
        reasons.append(f"it is of a {made['kind']} analysis, and the fit is {settings.kind}")
    low, high = settings.energy.limits
    low = low if config.min is None else max(low, u.Quantity(config.min).to_value("TeV"))
    high = high if config.max is None else min(high, u.Quantity(config.max).to_value("TeV"))
    if len(made["energy"]) != 2 or not np.allclose([low, high], made["energy"], rtol=_ENERGIES):
        edges = " to ".join(f"{edge:g}" for edge in made["energy"])
        reasons.append(f"it is from {edges} TeV, and the fit from {low:g} to {high:g} TeV")
    if made["model"] != config.model:
        reasons.append(f"it is for a {made['model']}, and the fit is a {config.model}")
    elif u.Quantity(config.reference) == 1 * u.TeV:
        # The reference is where the amplitude is; elsewhere the two cannot be set side by side.
        flux = u.Quantity(table["amplitude"][0]).to_value("cm-2 s-1 TeV-1")
        slope = table["index" if "index" in table.colnames else "alpha"][0]
        if not (1 / _FLUX < made["flux_at_1_TeV"] / flux < _FLUX) or (
            abs(made["index"] - float(slope)) > _INDEX
        ):
            reasons.append(
                f"it is for {made['flux_at_1_TeV']:.2g} cm-2 s-1 TeV-1 at 1 TeV and index "
                f"{made['index']:g}, and the fit found {flux:.2g} and {float(slope):.3g}"
            )
    else:
        reasons.append(f"it is at 1 TeV, and the reference of the fit is {config.reference}")
    return "; ".join(reasons)


def _add_predictions(table: QTable, losses: Table) -> None:
    names = _parameters(table)
    rows = {str(row["grouping"]): row for row in losses}
    for name in names:
        column = f"{_PREDICTED.get(name, name)} inflation"
        if column in losses.colnames:
            found = [rows.get(_LOSSES.get(str(g), "")) for g in table["grouping"]]
            table[f"{name} predicted"] = [
                0.0 if g == PER_RUN else np.nan if row is None else float(row[column])
                for g, row in zip(table["grouping"], found, strict=True)
            ]


def describe_comparison(table: QTable) -> str:
    """The table in a few lines, for reading.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        See `compare_groupings`.
    """
    shown = Table()
    shown[""] = table["grouping"]
    shown["datasets"] = table["n_datasets"]
    for name in _parameters(table):
        values, errors = (u.Quantity(table[c]).value for c in (name, f"{name} error"))
        shown[name] = [
            f"{value:.4g} +- {error:.2g}" for value, error in zip(values, errors, strict=True)
        ]
        shown["shift" + " " * len(shown.colnames)] = [
            f"{shift:+.2f} sigma" for shift in np.asarray(table[f"{name} shift"])
        ]
        ratios = [f"{1 + more:.3f}" for more in np.asarray(table[f"{name} inflation"])]
        if f"{name} predicted" in table.colnames:
            predicted = 1 + np.asarray(table[f"{name} predicted"])
            ratios = [f"{r} ({p:.3f} predicted)" for r, p in zip(ratios, predicted, strict=True)]
        shown["error ratio" + " " * len(shown.colnames)] = ratios
    for name in ("fit_time", "memory", "disk"):
        unit = table[name].unit
        shown[f"{name} [{unit}]"] = [f"{value:.2f}" for value in table[name].value]
    lines = shown.pformat(max_lines=-1, max_width=-1, align="<")
    lines.append("shift and error ratio are relative to the runs apart, and the error of these")
    if "prediction" in table.meta:
        lines.append(f"the predicted growth of errors is not shown: {table.meta['prediction']}")
    empty = float(np.asarray(table["empty_off"])[0])
    if empty > _MANY_EMPTY:
        lines.append(
            f"{100 * empty:.0f} % of the bins of the runs apart have no OFF count: there the "
            "statistic is biased, so that the runs apart are no reference"
        )
    return join_lines(lines)


def write_comparison(
    table: QTable, output: str | os.PathLike[str], overwrite: bool = False
) -> list[str]:
    """Write a comparison as ``comparison.ecsv``.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        See `compare_groupings`.
    output : str or path
        Directory, which appears whole or not at all.
    overwrite : bool
        Replace earlier results in it.
    """
    with results_directory(Path(output), "compare", overwrite) as staging:
        write_table(table, staging)
    return [COMPARISON_FILE]


def write_table(table: QTable, directory: Path) -> None:
    """Write a comparison into a directory of results that are not in place yet."""
    content = table.copy()
    content.meta["versions"] = versions()
    content.write(directory / COMPARISON_FILE, format="ascii.ecsv")
