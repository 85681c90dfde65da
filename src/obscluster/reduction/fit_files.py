"""The files of a joint fit: record, tables, models, plots."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.table import QTable, Table

from obscluster.files.output import results_directory
from obscluster.files.yaml import write_yaml
from obscluster.reduction.comparison import write_table
from obscluster.reduction.config import make_reduce_config
from obscluster.reduction.files import FIT_FILE, MODELS_FILE
from obscluster.reduction.fit import JointFit
from obscluster.reduction.messages import captured
from obscluster.reduction.result import Reduction
from obscluster.reduction.tables import (
    counts_images,
    flux_point_table,
    residual_table,
    spectrum_table,
)
from obscluster.results import versions

__all__ = ["write_fit"]


def write_fit(
    fit: JointFit,
    reduction: Reduction,
    output: str | os.PathLike[str],
    overwrite: bool = False,
    plots: bool = True,
    comparison: QTable | None = None,
) -> list[str]:
    """Write a fit: record, tables, models, flux points and plots.

    Parameters
    ----------
    fit : `JointFit`
        The fit.
    reduction : `~obscluster.reduction.result.Reduction`
        What was fitted.
    output : str or path
        Directory, which appears whole or not at all.
    overwrite : bool
        Replace earlier results in it.
    plots : bool
        Draw plots as PNG.
    comparison : `~astropy.table.QTable`, optional
        See `~obscluster.reduction.comparison.compare_groupings`; written beside the fit.

    Returns
    -------
    files : list of str
        Names of the files in the output.
    """
    config = make_reduce_config(reduction.record["config"])
    with captured() as messages:
        tables: dict[str, Table] = {
            "parameters.ecsv": fit.parameters,
            "spectrum.ecsv": spectrum_table(fit.models, fit.datasets),
            "residuals.ecsv": residual_table(
                fit.datasets, reduction.position, u.Quantity(config.region.radius)
            ),
        }
        points = flux_point_table(fit.datasets, fit.config.flux_points_per_decade, config.workers)
        if points is not None:
            tables["flux_points.ecsv"] = points
    output = Path(output)
    archive = reduction.archive
    # A comparison is written after the fit that it belongs to.
    with results_directory(output, "fit", overwrite, archive, with_kinds=("compare",)) as staging:
        for name, table in tables.items():
            table.write(staging / name, format="ascii.ecsv")
        with captured():
            fit.models.write(staging / MODELS_FILE, checksum=True)
        if comparison is not None:
            write_table(comparison, staging)
        if plots:
            _draw(fit, reduction, staging, tables)
        files = sorted({path.name for path in staging.iterdir()} | {FIT_FILE})
        write_yaml(staging / FIT_FILE, _record(fit, reduction, output, dict(messages), files))
    return files


def _draw(fit: JointFit, reduction: Reduction, staging: Path, tables: dict[str, Table]) -> None:
    # Matplotlib takes a second to load and is needed nowhere else.
    from obscluster.report.reduction import write_fit_plots

    images = {
        name: (counts.data, npred.data, counts.geom.wcs)
        for name, (counts, npred) in counts_images(fit.datasets).items()
    }
    n_runs = {name: len(group["obs_ids"]) for name, group in reduction.groups.items()}
    write_fit_plots(
        staging,
        tables["spectrum.ecsv"],
        tables["residuals.ecsv"],
        tables.get("flux_points.ecsv"),
        images,
        n_runs,
    )


def _record(
    fit: JointFit, reduction: Reduction, output: Path, messages: dict[str, int], files: list[str]
) -> dict[str, Any]:
    table = fit.parameters
    free = ~np.asarray(table["frozen"])
    return {
        "obscluster": "joint fit of groups",
        "versions": {**versions(), "gammapy": version("gammapy")},
        "reduction": _place_of(reduction.directory.absolute(), output.absolute()),
        "config": fit.config.model_dump(),
        "datasets": list(fit.datasets.names),
        "runs_left_out": reduction.skipped,
        "success": fit.success,
        "message": fit.message,
        "statistic": fit.stat,
        "n_bins": fit.n_bins,
        "n_free_parameters": int(free.sum()),
        "seconds": round(fit.seconds, 3),
        "parameters": [dict(zip(table.colnames, row, strict=True)) for row in table.iterrows()],
        "covariance": {
            "parameters": [
                f"{model}.{name}"
                for model, name in zip(table["model"][free], table["name"][free], strict=True)
            ],
            "matrix": fit.covariance[np.ix_(free, free)],
        },
        "messages": {**fit.messages, **messages},
        "files": files,
    }


def _place_of(datasets: Path, output: Path) -> str:
    """Where the datasets are: relative to a fit in or beside them, since they move together."""
    if output.parent in (datasets, datasets.parent):
        return os.path.relpath(datasets, output)
    return str(datasets)
