"""Figure and table of docs/methods.md: every method on the same observations.

    python docs/make_methods.py ARCHIVE

ARCHIVE is hess-dl3-dr1. The table replaces the one between the marks in methods.md.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from astropy import units as u
from astropy.table import QTable
from matplotlib.ticker import MaxNLocator
from obscluster.report.plots import save_figure

from obscluster import DataStore, Grouping, plot_conditions
from obscluster.cli import main

HERE = Path(__file__).parent
FEATURES = ["--features", "psf-r68", "edisp-res68", "aeff", "zenith"]
METHODS = {
    "Ward's tree, 3 groups": [*FEATURES, "--n-groups", "3"],
    "Ward's tree, number suggested": [*FEATURES, "--n-groups", "auto"],
    "k-means": [*FEATURES, "--method", "kmeans", "--n-groups", "3"],
    "Gaussian mixture": [*FEATURES, "--method", "mixture", "--n-groups", "3"],
    "HDBSCAN": [*FEATURES, "--method", "hdbscan", "--cluster-runs", "8"],
    "Cut at the median": ["--by", "ZEN_PNT", "--cut", "median"],
    "Equal livetime": ["--by", "ZEN_PNT", "--livetime", "3"],
    "Adaptive bins": ["--by", "cos-zenith", "--adaptive", "--min-livetime", "10 h"],
    "Two quantities": ["--by", "ZEN_PNT=cut:30 deg", "MUONEFF=cut:1.08"],
    "At most 25 % in the PSF": ["--max-spread", "psf-r68=25%"],
    "Ward, at least 8 h each": [*FEATURES, "--n-groups", "7", "--min-livetime", "8 h"],
    "Epochs": [*FEATURES, "--n-groups", "4", "--contiguous"],
}
BEGIN, END = "<!-- table: make_methods.py -->\n", "<!-- end -->\n"


def quoted(argument: str) -> str:
    """An argument as one writes it in a shell."""
    return f'"{argument}"' if " " in argument else argument


def angles(values: np.ndarray) -> str:
    """A range in whole degrees."""
    return f"{values.min():.0f}-{values.max():.0f}"


def make(archive: str) -> None:
    """Run every method from the command line, draw what it found, and list it."""
    table = DataStore.from_dir(archive).obs_table
    hours = u.Quantity(table["LIVETIME"]).to_value(u.h)
    zenith = u.Quantity(table["ZEN_PNT"]).to_value(u.deg)
    figure, axes = plt.subplots(4, 3, figsize=(13, 15), layout="constrained", sharey=True)
    rows = ["| method | options | groups: runs, livetime, zenith angles |", "| --- | --- | --- |"]
    for (title, options), ax in zip(METHODS.items(), axes.flat, strict=True):
        with tempfile.TemporaryDirectory() as output:
            arguments = ["group", archive, *options, "--no-plots", "--overwrite", "-o", output]
            if main(arguments) != 0:
                raise SystemExit(f"{title}: failed")
            grouping = Grouping.read(output)
            features = QTable.read(Path(output) / "features.ecsv")
        labels = grouping.label_of(table["OBS_ID"])
        groups = []
        for label in range(1, grouping.n_groups + 1):
            inside = labels == label
            text = f"{inside.sum()}, {hours[inside].sum():.1f} h, {angles(zenith[inside])}°"
            groups.append(text)
        rest = int((labels == -1).sum())
        groups += [f"({rest} in no group)"] if rest else []
        command = " ".join(map(quoted, options)).replace("|", "\\|")
        rows.append(f"| {title} | `{command}` | {'; '.join(groups)} |")
        in_time = "mjd" in features.colnames
        x = "MJD" if in_time else "ZEN_PNT"
        shown = QTable({"MUONEFF": u.Quantity(table["MUONEFF"]), "ZEN_PNT": table["ZEN_PNT"]})
        if in_time:
            shown["MJD"] = features["mjd"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            plot_conditions(shown, labels, x, "MUONEFF", ax=ax, s=22)
        ax.set_title(title)
        ax.xaxis.set_major_locator(MaxNLocator(4 if in_time else 6, integer=True))
        legend = ax.get_legend()
        if legend is not None:
            legend.remove()
        if ax not in axes[:, 0]:
            ax.set_ylabel("")
    save_figure(figure, HERE / "images" / "methods.png", dpi=80)
    page = HERE / "methods.md"
    text = page.read_text(encoding="utf-8")
    before, _, rest_of_page = text.partition(BEGIN)
    _, _, after = rest_of_page.partition(END)
    page.write_text(before + BEGIN + "\n".join(rows) + "\n" + END + after, encoding="utf-8")


if __name__ == "__main__":
    make(sys.argv[1])
