"""From an archive to a joint fit of groups, against plain Gammapy scripts that do the same.

    python benchmarks/reduction.py [archive] [--kind 1d] [--repeats 5]

Without an archive, H.E.S.S. public data are taken from ``$OBSCLUSTER_TEST_DATA``, from
``shared/data`` beside the repository, or from ``$GAMMAPY_DATA``; where there are none, an archive
is simulated.

Both sides select the runs on a target, cluster them on energy resolution and PSF radius, reduce
each of two groups to a stacked dataset with two processes, fit a power law jointly, compute flux
points and draw the spectrum; ``1d`` with spectra and reflected regions, ``3d`` with maps and
background responses. ``runs`` is the reduction in it alone: all runs to one stacked spectrum, which
is written, with one process, and also without the time of the imports; most of what else ``1d``
takes is Gammapy's on both sides. Each runs in processes of its own, imports included, several times
in turn; the medians count. Other work on the machine disturbs the wall time more than the time of
the processors, so that both are shown.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

POSITIONS = {"PKS 2155-304": (329.71693826, -30.2255890), "Crab Nebula": (83.6333, 22.0145)}
# Of the simulated archive: about as many runs on the Crab as there are on PKS 2155-304.
N_OBS = 120
SPECTRA: dict[str, Any] = {
    "kind": "1d",
    "stack": "gammapy",
    "keep_runs": False,
    "energy": {"min": "0.2 TeV", "max": "20 TeV", "bins_per_decade": 10},
    "energy_true": {"min": "0.1 TeV", "max": "40 TeV", "bins_per_decade": 20},
    "region": {"radius": "0.11 deg"},
    "fit": {"flux_points_per_decade": 5},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "runs": SPECTRA | {"workers": 1},
    "1d": SPECTRA | {"workers": 2},
    "3d": {
        "kind": "3d",
        "stack": "gammapy",
        "keep_runs": False,
        "energy": {"min": "0.3 TeV", "max": "20 TeV", "bins_per_decade": 6},
        "energy_true": {"min": "0.15 TeV", "max": "40 TeV", "bins_per_decade": 10},
        "map": {"width": "3 deg", "binsz": "0.04 deg"},
        "safe_mask": {"offset_max": "2 deg"},
        "exclusion": {"target": "0.3 deg"},
        "fit": {"flux_points_per_decade": 3},
        "workers": 2,
    },
}


def ours(archive: str, target: str, kind: str, output: Path) -> dict[str, float]:
    """The chain of obscluster, every file of its results included."""
    if kind == "runs":
        return our_runs(archive, target, output)
    from obscluster.config import make_config
    from obscluster.reduction import fit_reduction, make_reduce_config, reduce_groups, write_fit
    from obscluster.workflow.group import group_observations, write_results

    ra, dec = POSITIONS[target]
    config = make_config(
        {
            "archive": archive,
            "target": f"{ra} {dec}",
            "grouping": {"method": "hierarchical", "n_groups": 2},
        }
    )
    write_results(group_observations(config), output / "groups", plots=False)
    reduce_groups(output / "groups", make_reduce_config(SETTINGS[kind]), output / "datasets")
    reduction, fit = fit_reduction(output / "datasets")
    write_fit(fit, reduction, output / "fit")
    table = fit.parameters
    source = table[table["model"] == "source"]
    return dict(zip(source["name"].tolist(), source["value"].tolist(), strict=True))


def our_runs(archive: str, target: str, output: Path) -> dict[str, float]:
    """The reduction of obscluster alone."""
    import numpy as np

    from obscluster import DataStore, Grouping
    from obscluster.archive.selection import resolve_target
    from obscluster.reduction import make_reduce_config, reduce_groups

    started = time.process_time()
    place = "{} {}".format(*POSITIONS[target])
    store = DataStore.from_dir(archive)
    position = resolve_target(store.obs_table, place).position
    obs_ids = store.obs_table.select_sky_circle(position, "2 deg")["OBS_ID"]
    grouping = Grouping(obs_ids, np.ones(len(obs_ids), dtype=int))
    config = make_reduce_config(SETTINGS["runs"] | {"target": place})
    found = reduce_groups(grouping, config, output / "datasets", store).groups["group_1"]
    used = time.process_time() - started
    return {**{name: found[name] for name in ("counts", "background")}, "used": used}


def plain_runs(archive: str, target: str, output: Path) -> dict[str, float]:
    """The same with Gammapy alone."""
    import astropy.units as u
    from astropy.coordinates import SkyCoord
    from gammapy.data import DataStore
    from gammapy.datasets import Datasets
    from gammapy.makers import DatasetsMaker  # noqa: F401 the import counts for itself

    started = time.process_time()
    position = SkyCoord(*POSITIONS[target], unit="deg")
    store = DataStore.from_dir(archive)
    table = store.obs_table.select_sky_circle(position, 2 * u.deg)
    dataset = plain_spectrum("group_1", store.get_observations(table["OBS_ID"]), position, "runs")
    Datasets([dataset]).write(output / "datasets.yaml")
    maps = {"counts": dataset.counts, "background": dataset.background}
    used = time.process_time() - started
    sums = {name: float(m.data[dataset.mask_safe.data].sum()) for name, m in maps.items()}
    return {**sums, "used": used}


def plain(archive: str, target: str, kind: str, output: Path) -> dict[str, float]:
    """The same as one would write it with Gammapy alone."""
    if kind == "runs":
        return plain_runs(archive, target, output)
    import astropy.units as u
    import matplotlib as mpl
    from astropy.coordinates import SkyCoord
    from gammapy.data import DataStore
    from gammapy.data.utils import get_irfs_features
    from gammapy.datasets import Datasets
    from gammapy.estimators import FluxPointsEstimator
    from gammapy.modeling import Fit
    from gammapy.utils.cluster import hierarchical_clustering, standard_scaler

    mpl.use("agg")
    position = SkyCoord(*POSITIONS[target], unit="deg")
    store = DataStore.from_dir(archive)
    table = store.obs_table.select_sky_circle(position, 2 * u.deg)
    observations = store.get_observations(table["OBS_ID"])
    features = get_irfs_features(
        observations, 1 * u.TeV, position=position, names=["edisp-res", "psf-radius"]
    )
    scaled = standard_scaler(features)
    labels = hierarchical_clustering(scaled, fcluster_kwargs={"t": 2, "criterion": "maxclust"})
    groups = observations.group_by_label(labels["labels"])

    reduce = plain_spectrum if kind == "1d" else plain_maps
    datasets = Datasets([reduce(name, group, position) for name, group in groups.items()])
    model = plain_models(datasets, position, kind)
    datasets.write(output / "datasets.yaml", filename_models=output / "models.yaml")
    Fit().run(datasets)
    edges = datasets[0].counts.geom.axes["energy"].edges[::2]
    points = FluxPointsEstimator(
        energy_edges=edges, source="source", selection_optional=["ul"]
    ).run(datasets)
    ax = points.plot(sed_type="e2dnde")
    model.spectral_model.plot(ax=ax, energy_bounds=edges[[0, -1]], sed_type="e2dnde")
    model.spectral_model.plot_error(ax=ax, energy_bounds=edges[[0, -1]], sed_type="e2dnde")
    ax.figure.savefig(output / "spectrum.png")
    return {p.name: float(p.value) for p in model.parameters}


def plain_axes(kind: str) -> list[Any]:
    """Axes of reconstructed and true energy."""
    from gammapy.maps import MapAxis

    return [
        MapAxis.from_energy_bounds(
            axis["min"], axis["max"], nbin=axis["bins_per_decade"], per_decade=True, name=name
        )
        for name in ("energy", "energy_true")
        for axis in [SETTINGS[kind][name]]
    ]


def plain_spectrum(name: str, group: Any, position: Any, kind: str = "1d") -> Any:
    """A group as one spectrum."""
    import astropy.units as u
    from gammapy.datasets import SpectrumDataset
    from gammapy.makers import (
        DatasetsMaker,
        ReflectedRegionsBackgroundMaker,
        SafeMaskMaker,
        SpectrumDatasetMaker,
    )
    from gammapy.maps import RegionGeom
    from regions import CircleSkyRegion

    axis, true_axis = plain_axes("1d")
    geom = RegionGeom.create(CircleSkyRegion(position, 0.11 * u.deg), axes=[axis])
    makers = [
        SpectrumDatasetMaker(
            selection=["counts", "exposure", "edisp"], containment_correction=True
        ),
        ReflectedRegionsBackgroundMaker(),
        SafeMaskMaker(methods=["aeff-max"], aeff_percent=10),
    ]
    empty = SpectrumDataset.create(geom, energy_axis_true=true_axis)
    n_jobs = SETTINGS[kind]["workers"]
    runs = DatasetsMaker(makers, stack_datasets=False, n_jobs=n_jobs).run(empty, group)
    return runs.stack_reduce(name=name)


def plain_maps(name: str, group: Any, position: Any) -> Any:
    """A group as one set of maps."""
    import astropy.units as u
    from gammapy.datasets import MapDataset
    from gammapy.makers import DatasetsMaker, FoVBackgroundMaker, MapDatasetMaker, SafeMaskMaker
    from gammapy.maps import WcsGeom
    from regions import CircleSkyRegion

    axis, true_axis = plain_axes("3d")
    geom = WcsGeom.create(
        skydir=position, width=3, binsz=0.04, frame="icrs", proj="TAN", axes=[axis]
    )
    exclusion = geom.to_image().region_mask([CircleSkyRegion(position, 0.3 * u.deg)], inside=False)
    makers = [
        MapDatasetMaker(),
        SafeMaskMaker(
            methods=["aeff-max", "offset-max"],
            aeff_percent=10,
            offset_max=2 * u.deg,
            position=position,
        ),
        FoVBackgroundMaker(method="scale", exclusion_mask=exclusion),
    ]
    empty = MapDataset.create(geom, energy_axis_true=true_axis, name=name)
    maker = DatasetsMaker(makers, stack_datasets=True, n_jobs=2, cutout_width=4 * u.deg)
    return maker.run(empty, group)[0]


def plain_models(datasets: Any, position: Any, kind: str) -> Any:
    """The source, after it and models of the background were given to the datasets."""
    from gammapy.modeling.models import (
        FoVBackgroundModel,
        PointSpatialModel,
        PowerLawSpectralModel,
        SkyModel,
    )

    spectral = PowerLawSpectralModel(index=2, amplitude="1e-12 cm-2 s-1 TeV-1", reference="1 TeV")
    if kind == "1d":
        model = SkyModel(spectral, name="source")
        datasets.models = [model]
    else:
        spatial = PointSpatialModel(lon_0=position.ra, lat_0=position.dec, frame="icrs")
        for parameter in (spatial.lon_0, spatial.lat_0):
            # Else the first step of the minimiser leaves the map, and the fit fails.
            parameter.min, parameter.max = parameter.value - 0.5, parameter.value + 0.5
        model = SkyModel(spectral, spatial, name="source")
        background = [FoVBackgroundModel(dataset_name=name) for name in datasets.names]
        datasets.models = [model, *background]
    return model


def data_directories() -> Iterator[Path]:
    """Where real data may lie, the first that has it counts."""
    if "OBSCLUSTER_TEST_DATA" in os.environ:
        yield Path(os.environ["OBSCLUSTER_TEST_DATA"])
    yield Path(__file__).resolve().parents[2] / "shared" / "data"
    if "GAMMAPY_DATA" in os.environ:
        yield Path(os.environ["GAMMAPY_DATA"])


def find_archive(directory: Path) -> tuple[str, str]:
    """An archive and the target in it; simulated in the directory if there are no real data."""
    for place in data_directories():
        if (place / "hess-dl3-dr1" / "obs-index.fits.gz").exists():
            return str(place / "hess-dl3-dr1"), "PKS 2155-304"
    from obscluster.simulate import simulate

    archive = simulate(directory / "archive", n_obs=N_OBS, n_epochs=2, zenith_range=(44.0, 50.0))
    return str(archive), "Crab Nebula"


Measured = tuple[float, float, dict[str, float]]


def measure(side: str, archive: str, target: str, kind: str) -> Measured:
    """Wall time, processor time, and parameters of one run in processes of its own."""
    with tempfile.TemporaryDirectory() as directory:
        before = os.times()
        start = time.perf_counter()
        options = ["--side", side, "--target", target, "--kind", kind, "--output", directory]
        done = subprocess.run(
            [sys.executable, __file__, archive, *options],
            capture_output=True,
            text=True,
            check=False,
        )
        wall = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{side}, {kind}:\n{done.stderr}")
    after = os.times()
    used = after.children_user + after.children_system
    used -= before.children_user + before.children_system
    return wall, used, json.loads(done.stdout.splitlines()[-1])


def compare(archive: str, target: str, kind: str, repeats: int) -> None:
    """Time of both sides in turn, and whether they agree."""
    found: dict[str, list[Measured]] = {"plain": [], "ours": []}
    for _ in range(repeats):
        for side, runs in found.items():
            runs.append(measure(side, archive, target, kind))
    medians = {
        side: [statistics.median(run[i] for run in runs) for i in (0, 1)]
        for side, runs in found.items()
    }
    names = ("counts", "background") if kind == "runs" else ("index", "amplitude")
    print(f"{kind:24s}{'wall [s]':>12s}{'processors [s]':>16s}{names[0]:>12s}{names[1]:>14s}")
    for side, label in (("plain", "plain Gammapy"), ("ours", "obscluster")):
        first, second = (found[side][0][2][name] for name in names)
        wall, used = medians[side]
        print(f"  {label:22s}{wall:12.1f}{used:16.1f}{first:12.5f}{second:14.5g}")
    ratios = [medians["plain"][i] / medians["ours"][i] for i in (0, 1)]
    apart = [100 * (found["ours"][0][2][name] / found["plain"][0][2][name] - 1) for name in names]
    print(
        f"  {'ratio, apart':22s}{ratios[0]:12.2f}{ratios[1]:16.2f}"
        f"{apart[0]:+10.4f} %{apart[1]:+12.4f} %"
    )
    if kind == "runs":
        without = [
            statistics.median(run[2]["used"] for run in found[side]) for side in ("plain", "ours")
        ]
        print(
            f"  without imports: {without[0]:.1f} s and {without[1]:.1f} s of the processor, ratio "
            f"{without[0] / without[1]:.2f}"
        )
    print()


def main() -> None:
    """Compare; or, with a side, run one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archive", nargs="?", help="such as path/to/hess-dl3-dr1")
    parser.add_argument("--target", choices=[*POSITIONS], default="PKS 2155-304")
    parser.add_argument("--kind", choices=[*SETTINGS], help="one of them alone")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--side", choices=["ours", "plain"], help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side is not None:
        chain = {"ours": ours, "plain": plain}[asked.side]
        print(json.dumps(chain(asked.archive, asked.target, asked.kind, asked.output)))
        return
    with tempfile.TemporaryDirectory() as directory:
        archive, target = asked.archive, asked.target
        if archive is None:
            archive, target = find_archive(Path(directory))
        origin = "simulated" if Path(archive).is_relative_to(directory) else Path(archive).name
        print(f"{target} ({origin}), two groups, from the archive to the plot;")
        print(f"medians of {asked.repeats}, ratio is plain Gammapy / obscluster\n")
        for kind in SETTINGS if asked.kind is None else [asked.kind]:
            compare(archive, target, kind, asked.repeats)


if __name__ == "__main__":
    main()
