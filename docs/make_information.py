"""Figures and tables of docs/information.md: what stacking costs.

    python docs/make_information.py ARCHIVE [--experiments N]

ARCHIVE is hess-dl3-dr1. Tables replace those between the marks in information.md. The
pseudo-experiments take most of the time, ten minutes or more; ``--experiments 0`` leaves them as
they are.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from astropy.table import QTable
from matplotlib.figure import Figure
from obscluster.features.information import (
    Binning,
    Scores,
    error_inflation,
    get_scores,
    information_loss,
    make_binning,
    make_source,
)
from obscluster.grouping.information import information_partitions
from obscluster.report.frontier import plot_frontier
from obscluster.report.plots import save_figure
from obscluster.report.style import MARKERS, OKABE_ITO
from threadpoolctl import threadpool_limits

from obscluster.cli import main

HERE = Path(__file__).parent
PAGE, IMAGES = HERE / "information.md", HERE / "images"
sys.path.insert(0, str(HERE.parent / "benchmarks"))

import pseudo_experiments as pseudo  # noqa: E402

FLUXES = ("0.6 % Crab", "6 % Crab", "100 % Crab")


def replace_table(name: str, head: str, rows: list[str]) -> None:
    """Put a table between its marks in the page."""
    text = PAGE.read_text(encoding="utf-8")
    begin, end = f"<!-- table: {name} -->\n", "<!-- end -->\n"
    before, mark, rest = text.partition(begin)
    if not mark:
        raise SystemExit(f"{PAGE.name} has no {begin}")
    rule = "| " + " | ".join("---" for _ in head.strip("| ").split("|")) + " |"
    after = rest.partition(end)[2]
    PAGE.write_text(before + begin + "\n".join([head, rule, *rows]) + "\n" + end + after, "utf-8")


def percent(value: float, digits: int = 2) -> str:
    """A number as a percentage, with significant digits."""
    return f"{float(f'{100 * value:.{digits}g}'):g} %"


def read_frontier(archive: str, flux: str) -> QTable:
    """What `obscluster frontier` writes."""
    with tempfile.TemporaryDirectory() as output:
        target = f"{pseudo.PKS.ra.deg} {pseudo.PKS.dec.deg}"
        command = ["frontier", archive, "--target", target, "--flux", flux]
        if main([*command, "--overwrite", "--output", output]) != 0:
            raise SystemExit("obscluster frontier failed")
        return QTable.read(Path(output) / "frontier.ecsv")


def frontiers(archive: str) -> None:
    """Frontier for three fluxes, as a figure and a table."""
    figure = Figure(figsize=(12.6, 4.4), layout="constrained")
    axes = figure.subplots(1, len(FLUXES), sharey=True)
    columns = []
    for flux, ax in zip(FLUXES, axes, strict=True):
        table = read_frontier(archive, flux)
        plot_frontier(table, ax)
        ax.set_title(flux)
        best = table[table["grouping"] == "information"]
        ward = table[table["grouping"] == "ward"]
        columns.append((best, ward))
        if ax is not axes[0]:
            ax.get_legend().remove()
            ax.set_ylabel("")
    axes[0].set_ylim(8e-5, 0.15)
    save_figure(figure, IMAGES / "information-frontier.png", dpi=100)
    rows = []
    for n_groups in (1, 2, 3, 4, 5, 8):
        cells = [str(n_groups)]
        for best, ward in columns:
            row = best[best["n_groups"] == n_groups][0]
            cells += [
                f"{percent(row['loss'])} (Ward {percent(ward['loss'][n_groups - 1])})",
                f"{percent(row['amplitude inflation'])}, {percent(row['index inflation'])}",
            ]
        rows.append("| " + " | ".join(cells) + " |")
    head = "| groups | " + " | ".join(f"{flux}: loss | errors grow" for flux in FLUXES) + " |"
    replace_table("frontier", head, rows)


def by_flux(observations: list) -> None:
    """Loss against the flux of the source."""
    fluxes = np.geomspace(1e-3, 1, 13)
    wanted = (1, 2, 3, 5)
    losses = []
    for flux in fluxes:
        scores = get_scores(observations, make_source(float(flux)), pseudo.PKS)
        found = information_partitions(scores, max(wanted))
        losses.append([found[n].parameters["loss"] for n in wanted])
    figure = Figure(figsize=(6.2, 4.2), layout="constrained")
    ax = figure.subplots()
    for place, (n_groups, values) in enumerate(zip(wanted, np.transpose(losses), strict=True)):
        label = "all stacked" if n_groups == 1 else f"{n_groups} groups"
        style = {"color": OKABE_ITO[place], "marker": MARKERS[place], "markersize": 4}
        ax.plot(100 * fluxes, 100 * values, label=label, **style)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.xaxis.set_major_formatter("{x:g} %")
    ax.yaxis.set_major_formatter("{x:g} %")
    ax.set_xlabel("flux of the source, in units of the Crab nebula's at 1 TeV")
    ax.set_ylabel("information lost")
    ax.grid(alpha=0.3, which="both")
    ax.legend()
    save_figure(figure, IMAGES / "information-flux.png", dpi=100)


def two_psfs(ratio: float, rings: np.ndarray) -> float:
    """Information that stacking two equal exposures keeps, by the code."""
    widths = np.array([[0.06], [0.06 * ratio]])
    inside = np.diff(-np.expm1(-0.5 * (rings / widths) ** 2), axis=1)
    background = np.broadcast_to(1e4 * np.diff(rings**2), inside.shape)
    # So faint that the background alone makes the noise.
    signal = 1e-6 * inside
    scores = Scores([1, 2], background + signal, signal[..., np.newaxis], background)
    return 1 - information_loss(scores, [1, 1])


def closed_form() -> None:
    """The code beside the closed form of two Gaussian PSFs."""
    fine, usual = np.linspace(0, 3, 601), Binning().rings
    rows = [
        f"| {r:g} | {0.5 + 2 * r**2 / (1 + r**2) ** 2:.4f} | {two_psfs(r, fine):.4f} | "
        f"{two_psfs(r, usual):.4f} | {percent(1 - two_psfs(r, fine))} |"
        for r in (1.2, 1.5, 2, 3)
    ]
    head = "| r | closed form | code, fine rings | code, its usual rings | lost |"
    replace_table("closed-form", head, rows)


def binnings(observations: list) -> None:
    """Loss of stacking everything, by the bins."""
    source, stacked = make_source(FLUXES[0]), np.ones(len(observations), dtype=int)
    kinds = [
        (f"{n} per decade", "7, to 0.4°", make_binning(["0.1 TeV", "100 TeV"], bins_per_decade=n))
        for n in (4, 8, 20)
    ]
    for name, edges in (
        ("20, to 0.4°", [f"{0.02 * i:.2f} deg" for i in range(21)]),
        ("3, to 0.4°", ["0 deg", "0.1 deg", "0.2 deg", "0.4 deg"]),
        ("1, to 0.12°", ["0 deg", "0.12 deg"]),
    ):
        kinds.append(("8 per decade", name, make_binning(ring_edges=edges)))
    rows = []
    for bins, rings, binning in kinds:
        scores = get_scores(observations, source, pseudo.PKS, binning)
        grown = error_inflation(scores, stacked)
        rows.append(
            f"| {bins} | {rings} | {100 * information_loss(scores, stacked):.1f} % | "
            f"{percent(grown['amplitude'])}, {percent(grown['index'])} |"
        )
    head = "| energy bins | rings | all stacked: loss | errors of amplitude, index grow |"
    replace_table("binning", head, rows)


def experiments(results: list[pseudo.Result]) -> None:
    """Figure and tables of the pseudo-experiments."""
    many = [result for result in results if result.factor == result.case.factor]
    pseudo.plot(many, IMAGES / "information-pseudo-experiments.png")
    rows = [
        f"| {result.case.name}, {result.n_runs} runs, {result.case.flux} | "
        f"{row.n_groups} | {percent(row.loss, 3)} | {row.parameter} | "
        f"{100 * row.predicted:.3f} % | "
        f"{100 * row.measured:.3f} ± {100 * row.error:.3f} % | {row.sigmas:+.1f} | "
        f"{100 * row.difference:.3f} ± {100 * row.difference_error:.3f} % |"
        for result in many
        for row in result.rows
    ]
    head = (
        "| runs, source | groups | loss | parameter | predicted growth | measured | "
        "off by (sigma) | by differences |"
    )
    replace_table("pseudo-experiments", head, rows)
    rows = []
    for result in results:
        if result.case.name == pseudo.REAL.name:
            cells = [
                f"{result.factor:g}",
                *(percent(error) for error in result.errors),
                *(
                    f"{100 * row.measured:.2f} ± {100 * row.error:.2f} %"
                    for row in result.rows
                    if row.n_groups == 1
                ),
                f"{result.without:.1%}".replace("%", " %"),
            ]
            rows.append("| " + " | ".join(cells) + " |")
    head = (
        "| exposures times | error of the amplitude | of the index (relative to 1) | "
        "stacked: error of the amplitude grows | of the index | no maximum |"
    )
    replace_table("few", head, rows)


def make() -> None:
    """Everything that the page shows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("archive", help="directory of hess-dl3-dr1")
    parser.add_argument("--experiments", type=int, default=pseudo.N_EXPERIMENTS)
    arguments = parser.parse_args()
    observations = pseudo.near(arguments.archive, pseudo.PKS)
    closed_form()
    binnings(observations)
    by_flux(observations)
    frontiers(arguments.archive)
    if arguments.experiments > 0:
        experiments(list(pseudo.measure(arguments.archive, arguments.experiments)))


if __name__ == "__main__":
    with threadpool_limits(1):
        make()
