"""Make docs/images/growth.png: time against the number of runs.

    python docs/make_performance.py [--most 20000]

Index, features with two workers, the same from the cache, Ward's tree and groups by information;
each for 100 to 20,000 runs, in this process. Medians of as many calls as fit into a second, one at
least. Takes about five minutes.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from obscluster.engine import get_engine
from obscluster.grouping.information import cluster_by_information
from obscluster.report.plots import save_figure
from obscluster.report.style import MARKERS, OKABE_ITO

from obscluster import DataStore
from obscluster.features.table import get_features
from obscluster.gadf.discover import discover, write_index_files
from obscluster.grouping.hierarchical import linkage_tree

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
from many_runs import ENERGIES, NAMES, make_runs  # noqa: E402

from information import make_scores  # noqa: E402 another script of this repository

NUMBERS = (100, 200, 500, 1000, 2000, 5000, 10_000, 20_000)
# Below this many runs the start-up counts, not the growth.
FROM = 1000


def seconds(function: Callable[[], object]) -> float:
    """Median time of a call."""
    times: list[float] = []
    while sum(times) < 1.0:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def of_archive(n_runs: int, directory: Path) -> dict[str, float]:
    """Times of what reads files."""
    make_runs(directory / "data", n_runs)
    cache = directory / "cache"
    times = {
        "index": seconds(
            lambda: write_index_files(
                discover(directory / "data", base_dir=directory), directory, overwrite=True
            )
        )
    }

    def features(**options: object) -> None:
        get_features(
            DataStore.from_dir(directory).get_observations(),
            NAMES,
            ENERGIES,
            fixed_offset="0.5 deg",
            **options,
        )

    times["features, 2 workers"] = seconds(lambda: features(engine=get_engine(2)))
    features(engine=get_engine(2), cache=cache)
    times["features, from the cache"] = seconds(lambda: features(cache=cache))
    shutil.rmtree(directory)
    return times


def measure(n_runs: int, scratch: Path) -> dict[str, float]:
    """Times of everything for a number of runs."""
    times = of_archive(n_runs, scratch / str(n_runs))
    X = np.random.default_rng(0).normal(size=(n_runs, 4))
    times["Ward's tree, 4 features"] = seconds(lambda: linkage_tree(X))
    scores = make_scores(n_runs)
    times["groups by information, 200 bins"] = seconds(
        lambda: cluster_by_information(scores, max_loss=0.01)
    )
    return times


def plot(numbers: list[int], times: dict[str, list[float]]) -> None:
    """Draw times against numbers, and say how they grow."""
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    ax = figure.subplots()
    for i, (name, found) in enumerate(times.items()):
        x, y = np.array(numbers, float), np.array(found)
        late = x >= min(FROM, x[-2])
        exponent = np.polyfit(np.log(x[late]), np.log(y[late]), 1)[0]
        label = f"{name}: $n^{{{exponent:.2f}}}$"
        ax.plot(x, y, marker=MARKERS[i], color=OKABE_ITO[i], label=label)
        print(f"{name:34} exponent {exponent:.2f}  {found[-1]:.2f} s for {numbers[-1]:,} runs")
    ax.set(xscale="log", yscale="log", xlabel="Number of runs", ylabel="Time (s)")
    ax.grid(which="major", alpha=0.4)
    figure.legend(
        title=f"Growth from {min(FROM, numbers[-2]):,} runs on", loc="outside lower center", ncols=2
    )
    save_figure(figure, ROOT / "docs" / "images" / "growth.png")


def main() -> None:
    """Measure and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=int, default=NUMBERS[-1], help="largest number of runs")
    arguments = parser.parse_args()
    numbers = [number for number in NUMBERS if number <= arguments.most]
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        # What is loaded at the first use does not count.
        measure(20, Path(scratch))
        for number in numbers:
            for name, found in measure(number, Path(scratch)).items():
                times.setdefault(name, []).append(found)
            print(number, {name: round(found[-1], 3) for name, found in times.items()}, flush=True)
    plot(numbers, times)


if __name__ == "__main__":
    main()
