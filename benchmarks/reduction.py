"""From an archive to a joint fit of groups, against a plain Gammapy script that does the same.

    python benchmarks/reduction.py path/to/hess-dl3-dr1

Both select 21 runs on PKS 2155-304, cluster them on energy resolution and PSF radius, reduce each
of two groups to a stacked spectrum with two processes, fit a power law jointly, compute flux
points and draw the spectrum. Each runs in processes of its own, imports included, several times
in turn; the medians count. Other work on the machine disturbs the wall time more than the time of
the processors, so that both are shown.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPEATS = 3
POSITION = (329.71693826, -30.2255890)
SETTINGS = {
    "energy": {"min": "0.2 TeV", "max": "20 TeV", "bins_per_decade": 10},
    "energy_true": {"min": "0.1 TeV", "max": "40 TeV", "bins_per_decade": 20},
    "region": {"radius": "0.11 deg"},
    "fit": {"flux_points_per_decade": 5},
    "workers": 2,
}


def ours(archive: str, output: Path) -> dict[str, float]:
    """The chain of obscluster, every file of its results included."""
    from obscluster.config import make_config
    from obscluster.pipeline import group_observations, write_results
    from obscluster.reduction import fit_reduction, make_reduce_config, reduce_groups, write_fit

    config = make_config(
        {
            "archive": archive,
            "target": f"{POSITION[0]} {POSITION[1]}",
            "grouping": {"method": "hierarchical", "n_groups": 2},
        }
    )
    write_results(group_observations(config), output / "groups", plots=False)
    reduce_groups(output / "groups", make_reduce_config(SETTINGS), output / "datasets")
    reduction, fit = fit_reduction(output / "datasets")
    write_fit(fit, reduction, output / "fit")
    table = fit.parameters
    return dict(zip(table["name"].tolist(), table["value"].tolist(), strict=True))


def plain(archive: str, output: Path) -> dict[str, float]:
    """The same as one would write it with Gammapy alone."""
    import astropy.units as u
    import matplotlib as mpl
    from astropy.coordinates import SkyCoord
    from gammapy.data import DataStore
    from gammapy.data.utils import get_irfs_features
    from gammapy.datasets import Datasets, SpectrumDataset
    from gammapy.estimators import FluxPointsEstimator
    from gammapy.makers import (
        DatasetsMaker,
        ReflectedRegionsBackgroundMaker,
        SafeMaskMaker,
        SpectrumDatasetMaker,
    )
    from gammapy.maps import MapAxis, RegionGeom
    from gammapy.modeling import Fit
    from gammapy.modeling.models import PowerLawSpectralModel, SkyModel
    from gammapy.utils.cluster import hierarchical_clustering, standard_scaler
    from regions import CircleSkyRegion

    mpl.use("agg")
    position = SkyCoord(*POSITION, unit="deg")
    store = DataStore.from_dir(archive)
    table = store.obs_table.select_sky_circle(position, 2 * u.deg)
    observations = store.get_observations(table["OBS_ID"])
    features = get_irfs_features(
        observations, 1 * u.TeV, position=position, names=["edisp-res", "psf-radius"]
    )
    scaled = standard_scaler(features)
    labels = hierarchical_clustering(scaled, fcluster_kwargs={"t": 2, "criterion": "maxclust"})
    groups = observations.group_by_label(labels["labels"])

    axis = MapAxis.from_energy_bounds("0.2 TeV", "20 TeV", nbin=10, per_decade=True)
    true_axis = MapAxis.from_energy_bounds(
        "0.1 TeV", "40 TeV", nbin=20, per_decade=True, name="energy_true"
    )
    geom = RegionGeom.create(CircleSkyRegion(position, 0.11 * u.deg), axes=[axis])
    datasets = Datasets()
    for name, group in groups.items():
        makers = [
            SpectrumDatasetMaker(
                selection=["counts", "exposure", "edisp"], containment_correction=True
            ),
            ReflectedRegionsBackgroundMaker(),
            SafeMaskMaker(methods=["aeff-max"], aeff_percent=10),
        ]
        empty = SpectrumDataset.create(geom, energy_axis_true=true_axis)
        runs = DatasetsMaker(makers, stack_datasets=False, n_jobs=2).run(empty, group)
        datasets.append(runs.stack_reduce(name=name))
    model = SkyModel(
        PowerLawSpectralModel(index=2, amplitude="1e-12 cm-2 s-1 TeV-1", reference="1 TeV"),
        name="source",
    )
    datasets.models = [model]
    datasets.write(output / "datasets.yaml", filename_models=output / "models.yaml")
    Fit().run(datasets)
    edges = axis.edges[::2]
    points = FluxPointsEstimator(
        energy_edges=edges, source="source", selection_optional=["ul"]
    ).run(datasets)
    ax = points.plot(sed_type="e2dnde")
    model.spectral_model.plot(ax=ax, energy_bounds=edges[[0, -1]], sed_type="e2dnde")
    model.spectral_model.plot_error(ax=ax, energy_bounds=edges[[0, -1]], sed_type="e2dnde")
    ax.figure.savefig(output / "spectrum.png")
    return {p.name: float(p.value) for p in model.parameters}


def measure(name: str, archive: str) -> tuple[float, float, dict[str, float]]:
    """Wall time, processor time, and parameters of one run in processes of its own."""
    with tempfile.TemporaryDirectory() as directory:
        before = os.times()
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, __file__, archive, name, directory],
            capture_output=True,
            text=True,
            check=True,
        )
        wall = time.perf_counter() - start
    after = os.times()
    used = after.children_user + after.children_system
    used -= before.children_user + before.children_system
    return wall, used, json.loads(done.stdout.splitlines()[-1])


def compare(archive: str) -> None:
    """Time of both sides in turn, and whether they agree."""
    found: dict[str, list[tuple[float, float, dict[str, float]]]] = {"plain": [], "ours": []}
    for _ in range(REPEATS):
        for name, runs in found.items():
            runs.append(measure(name, archive))
    print(f"PKS 2155-304, 21 runs in 2 groups, from the archive to the plot, medians of {REPEATS}")
    medians = {
        name: [statistics.median(run[i] for run in runs) for i in (0, 1)]
        for name, runs in found.items()
    }
    for name, label in (("plain", "plain Gammapy"), ("ours", "obscluster")):
        wall, used = medians[name]
        print(f"  {label:14s} {wall:6.1f} s, {used:6.1f} s of processors")
    wall, used = (medians["plain"][i] / medians["ours"][i] for i in (0, 1))
    print(f"  ratio          {wall:6.2f},   {used:6.2f}")
    for name in ("index", "amplitude"):
        one, other = (found[side][0][2][name] for side in ("ours", "plain"))
        print(f"  {name}: {one:.6g} and {other:.6g}, {100 * (one / other - 1):+.4f} % apart")


if __name__ == "__main__":
    if len(sys.argv) == 4:
        chain = {"ours": ours, "plain": plain}[sys.argv[2]]
        print(json.dumps(chain(sys.argv[1], Path(sys.argv[3]))))
    elif len(sys.argv) == 2:
        compare(sys.argv[1])
    else:
        sys.exit(__doc__)
