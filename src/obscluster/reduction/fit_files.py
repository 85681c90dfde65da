"""The files of a joint fit: record, tables, models, plots."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import QTable, Table

from obscluster.files.output import results_directory
from obscluster.files.records import versions
from obscluster.files.yaml import write_yaml
from obscluster.plots.spectra import write_fit_plots
from obscluster.reduction.comparison import write_table
from obscluster.reduction.examination import Examination, optional
from obscluster.reduction.fit import (
    JointFit,
    counts_images,
    flux_point_table,
    residual_table,
    spectrum_table,
)
from obscluster.reduction.joint import Joint, join_reductions
from obscluster.reduction.messages import captured
from obscluster.reduction.result import FIT_FILE, MODELS_FILE, Reduction

__all__ = ["write_fit"]


def write_fit(
    fit: JointFit,
    reduction: Reduction | Joint,
    output: str | os.PathLike[str],
    overwrite: bool = False,
    plots: bool = True,
    comparison: QTable | None = None,
    examination: Examination | None = None,
) -> list[str]:
    """Write a fit: record, tables, models, flux points and plots.

    What beside the fit cannot be made is left out with its reason, in ``fit.yaml`` and in the
    examination.

    Parameters
    ----------
    fit : `JointFit`
        The fit.
    reduction : `~obscluster.reduction.result.Reduction` or `~obscluster.reduction.joint.Joint`
        What was fitted.
    output : str or path
        Directory, which appears whole or not at all.
    overwrite : bool
        Replace earlier results in it.
    plots : bool
        Draw plots as PNG.
    comparison : `~astropy.table.QTable`, optional
        See `~obscluster.reduction.comparison.compare_groupings`; written beside the fit.
    examination : `~obscluster.reduction.examination.Examination`, optional
        What is said of the fit; found out unless given.

    Returns
    -------
    files : list of str
        Names of the files in the output.
    """
    joint = reduction if isinstance(reduction, Joint) else join_reductions(reduction, fit.config)
    found = joint.examine(fit) if examination is None else examination
    fit, left_out = found.fit, found.left_out
    with captured() as messages:
        tables: dict[str, Table | None] = {
            "parameters.ecsv": fit.parameters,
            "goodness.ecsv": found.goodness,
            "groups_alone.ecsv": found.alone,
            "light_curve.ecsv": found.light_curve,
        }
        with optional("spectrum", left_out):
            tables["spectrum.ecsv"] = spectrum_table(fit.models, fit.datasets)
        with optional("residuals", left_out):
            tables["residuals.ecsv"] = residual_table(fit.datasets, joint.position, joint.radius)
        with optional("flux points", left_out):
            points, why = flux_point_table(
                fit.datasets, fit.config.flux_points_per_decade, joint.workers, joint.instruments
            )
            tables["flux_points.ecsv"] = points
            left_out.update(why)
    made = {name: table for name, table in tables.items() if table is not None}
    output = Path(output)
    archive = joint.first.archive
    # A comparison is written after the fit that it belongs to.
    with results_directory(output, "fit", overwrite, archive, with_kinds=("compare",)) as staging:
        for name, table in made.items():
            table.write(staging / name, format="ascii.ecsv")
        with captured():
            fit.models.write(staging / MODELS_FILE, checksum=True)
        if comparison is not None:
            write_table(comparison, staging)
        if plots:
            _draw(fit, joint, staging, made, left_out)
        files = sorted({path.name for path in staging.iterdir()} | {FIT_FILE})
        write_yaml(staging / FIT_FILE, _record(found, joint, output, dict(messages), files))
    return files


def _draw(
    fit: JointFit,
    joint: Joint,
    staging: Path,
    tables: dict[str, Table],
    left_out: dict[str, str],
) -> None:
    images = {}
    with optional("images of counts", left_out):
        images = {
            name: (counts.data, npred.data, counts.geom.wcs)
            for name, (counts, npred) in counts_images(fit.datasets).items()
        }
    content = {name.removesuffix(".ecsv"): table for name, table in tables.items()}
    _, why = write_fit_plots(staging, content, images, joint.n_runs)
    left_out.update(why)


def _record(
    found: Examination, joint: Joint, output: Path, messages: dict[str, int], files: list[str]
) -> dict[str, Any]:
    fit = found.fit
    table = fit.parameters
    unique = fit.models.parameters.free_unique_parameters
    every = list(fit.models.parameters)
    # A parameter that models share stands in the covariance once.
    places = [next(i for i, p in enumerate(every) if p is one) for one in unique]
    reductions = list(joint.reductions.values())
    places_of = [_place_of(r.directory.absolute(), output.absolute()) for r in reductions]
    counted = [] if found.goodness is None else list(found.goodness)
    return {
        "obscluster": "joint fit of groups",
        "verdict": found.verdict,
        "versions": {**versions(), "gammapy": version("gammapy")},
        "reduction": places_of[0] if len(places_of) == 1 else places_of,
        "config": fit.config.model_dump(),
        "datasets": list(fit.datasets.names),
        "instruments": joint.instruments,
        "runs_left_out": {i: why for r in reductions for i, why in r.skipped.items()},
        "success": fit.success,
        "message": fit.message,
        "statistic": fit.stat,
        "n_bins": fit.n_bins,
        "n_free_parameters": fit.n_free,
        "detection": dict(found.detection),
        "goodness": [{n: _plain(row[n]) for n in row.colnames} for row in counted],
        "agreement": dict(found.agreement),
        "variability": dict(found.variability),
        "deviations": {name: dict(one) for name, one in found.deviations.items()},
        "left_out": found.left_out,
        "seconds": round(fit.seconds, 3),
        "parameters": [dict(zip(table.colnames, row, strict=True)) for row in table.iterrows()],
        "covariance": {
            "parameters": [f"{table['model'][i]}.{table['name'][i]}" for i in places],
            "matrix": fit.covariance[np.ix_(places, places)],
        },
        "messages": {**fit.messages, **messages},
        "files": files,
    }


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _place_of(datasets: Path, output: Path) -> str:
    """Where the datasets are: relative to a fit in or beside them, since they move together."""
    if output.parent in (datasets, datasets.parent):
        return os.path.relpath(datasets, output)
    return str(datasets)
