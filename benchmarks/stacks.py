"""What is fitted to stacks: runs apart, groups and everything, exactly and as Gammapy stacks.

    python benchmarks/stacks.py ARCHIVE [--experiments 500]

ARCHIVE is hess-dl3-dr1. The 21 runs on PKS 2155-304 are grouped in two by energy resolution and
PSF radius, as in README.md. The first table has the index of a power law fitted to the data. The
second has pulls, (fitted - true) / error, of pseudo-experiments: counts of every run are drawn from
what the run predicts for a known source, stacked, and fitted. Mean and width of the pulls are 0 and
1, within their statistical errors, if nothing is lost.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import QTable
from gammapy.datasets import Datasets
from gammapy.modeling import Fit
from gammapy.modeling.models import PowerLawSpectralModel, SkyModel

from obscluster.config import make_config
from obscluster.reduction import Reduction, compare_groupings, make_reduce_config, reduce_groups
from obscluster.reduction.messages import captured
from obscluster.reduction.stack import predictions
from obscluster.workflow.group import group_observations

TARGET = "329.71693826 -30.2255890"
SETTINGS = {
    "energy": {"min": "0.2 TeV", "max": "20 TeV", "bins_per_decade": 10},
    "energy_true": {"min": "0.1 TeV", "max": "40 TeV", "bins_per_decade": 20},
    "target": TARGET,
    "keep_runs": True,
    "workers": 2,
}
# About twice the Crab, with the index of the source.
TRUTH = {"index": 3.5, "amplitude": 6e-11}
SEED = 1


def reduced(archive: str, output: Path) -> dict[str, Reduction]:
    """The groups, stacked in both ways."""
    config = make_config(
        {"archive": archive, "target": TARGET}
        | {"grouping": {"method": "hierarchical", "n_groups": 2}}
    )
    grouping = group_observations(config).grouping
    return {
        stack: reduce_groups(
            grouping, make_reduce_config(SETTINGS | {"stack": stack}), output / stack, archive
        )
        for stack in ("exact", "gammapy")
    }


def index_table(reductions: dict[str, Reduction]) -> QTable:
    """Index of the runs apart, in groups and all stacked."""
    rows = []
    for stack, reduction in reductions.items():
        for row in compare_groupings(reduction, memory=False):
            if row["grouping"] != "per run" or stack == "exact":
                how = "-" if row["grouping"] == "per run" else stack
                rows.append((str(row["grouping"]), how, row["index"], row["index error"]))
    table = QTable(rows=rows, names=["datasets", "stack", "index", "error"])
    table["shift in errors"] = (table["index"] - table["index"][0]) / table["error"]
    return table


def model_of(reference: dict[str, float]) -> SkyModel:
    amplitude = f"{reference['amplitude']} cm-2 s-1 TeV-1"
    return SkyModel(PowerLawSpectralModel(index=reference["index"], amplitude=amplitude))


def pulls(reduction: Reduction, n_experiments: int) -> QTable:
    """Mean and width of the pulls, with their errors."""
    generator = np.random.default_rng(SEED)
    groups, runs = reduction.read(), reduction.read_runs()
    expected = {}
    for group in groups:
        members = [runs[f"run_{i}"] for i in reduction.groups[group.name]["obs_ids"]]
        signal = sum(predictions(run, [model_of(TRUTH)])[0].data for run in members)
        # The background as it was measured in all runs of the group together.
        expected[group.name] = signal + group.background.data, group.counts_off.data
    found = []
    for _ in range(n_experiments):
        for group in groups:
            on, off = expected[group.name]
            group.counts.data = generator.poisson(on).astype(float)
            group.counts_off.data = generator.poisson(off).astype(float)
        model = model_of(TRUTH)
        datasets = Datasets([dataset.copy(name=dataset.name) for dataset in groups])
        datasets.models = [model]
        with captured():
            Fit().run(datasets)
        found.append(
            {
                name: (parameter.value - TRUTH[name]) / parameter.error
                for name, parameter in (
                    ("index", model.spectral_model.index),
                    ("amplitude", model.spectral_model.amplitude),
                )
            }
        )
    rows: list[tuple[Any, ...]] = []
    for name in TRUTH:
        values = np.array([one[name] for one in found])
        n = len(values)
        mean, width = values.mean(), values.std(ddof=1)
        rows.append((name, n, mean, width / np.sqrt(n), width, width / np.sqrt(2 * (n - 1))))
    names = ["parameter", "experiments", "mean", "its error", "width", "its error "]
    return QTable(rows=rows, names=names)


def show(title: str, table: QTable) -> None:
    """Print a table."""
    for name in table.colnames:
        if table[name].dtype.kind == "f":
            table[name].info.format = ".3f"
    print(title, *table.pformat(max_lines=-1, max_width=-1), "", sep="\n", flush=True)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive")
    parser.add_argument("--experiments", type=int, default=500, metavar="N")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        reductions = reduced(asked.archive, Path(directory))
        show("index of a power law, 21 runs on PKS 2155-304", index_table(reductions))
        for stack, reduction in reductions.items():
            table = pulls(reduction, asked.experiments)
            show(f"pulls of two groups, stack: {stack}", table)


if __name__ == "__main__":
    main()
