"""Groups of real runs, reduced and fitted here and by plain Gammapy scripts."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from numpy.testing import assert_allclose

from obscluster.config import make_config
from obscluster.grouping.base import Grouping
from obscluster.reduction import make_reduce_config
from obscluster.workflow.group import group_observations

pytest.importorskip("gammapy")

from gammapy.data import DataStore
from gammapy.datasets import Datasets, MapDataset, SpectrumDataset
from gammapy.makers import (
    DatasetsMaker,
    FoVBackgroundMaker,
    MapDatasetMaker,
    ReflectedRegionsBackgroundMaker,
    SafeMaskMaker,
    SpectrumDatasetMaker,
)
from gammapy.maps import MapAxis, RegionGeom, WcsGeom
from gammapy.modeling import Fit
from gammapy.modeling.models import (
    FoVBackgroundModel,
    PointSpatialModel,
    PowerLawSpectralModel,
    SkyModel,
)
from regions import CircleSkyRegion

from obscluster.reduction import fit_reduction, reduce_groups
from obscluster.reduction.messages import captured

POSITION = SkyCoord(329.71693826, -30.2255890, unit="deg")
# Coarse maps; benchmarks/reduction.py has finer ones.
SPECTRA = {
    "stack": "gammapy",
    "energy": {"min": "0.2 TeV", "max": "20 TeV", "bins_per_decade": 10},
    "energy_true": {"min": "0.1 TeV", "max": "40 TeV", "bins_per_decade": 20},
    "region": {"radius": "0.11 deg"},
}
MAPS = {
    "stack": "gammapy",
    "kind": "3d",
    "energy": {"min": "0.5 TeV", "max": "10 TeV", "bins_per_decade": 3},
    "energy_true": {"min": "0.25 TeV", "max": "20 TeV", "bins_per_decade": 5},
    "map": {"width": "1.6 deg", "binsz": "0.08 deg"},
    "exclusion": {"target": "0.3 deg"},
    "safe_mask": {"offset_max": "1.2 deg"},
}


@pytest.fixture(scope="module")
def grouping(hess_dr1):
    """The 21 runs on PKS 2155-304 in two Ward groups."""
    config = make_config(
        {"archive": str(hess_dr1), "target": f"{POSITION.ra.deg} {POSITION.dec.deg}"}
        | {"grouping": {"method": "hierarchical", "n_groups": 2}}
    )
    return group_observations(config).grouping


def fitted(grouping, archive, content, output):
    """Value and error of the source's parameters, by obscluster."""
    config = make_reduce_config(content | {"target": f"{POSITION.ra.deg} {POSITION.dec.deg}"})
    result = reduce_groups(grouping, config, output, archive)
    assert result.skipped == {}
    fit = fit_reduction(result)[1]
    assert fit.success
    return {r["name"]: (r["value"], r["error"]) for r in fit.parameters if r["model"] == "source"}


def axes_of(content):
    return [
        MapAxis.from_energy_bounds(
            axis["min"], axis["max"], axis["bins_per_decade"], per_decade=True, name=name
        )
        for name in ("energy", "energy_true")
        for axis in [content[name]]
    ]


def plain_spectrum(observations, name):
    axis, true_axis = axes_of(SPECTRA)
    geom = RegionGeom.create(CircleSkyRegion(POSITION, 0.11 * u.deg), axes=[axis])
    makers = [
        SpectrumDatasetMaker(
            selection=["counts", "exposure", "edisp"], containment_correction=True
        ),
        ReflectedRegionsBackgroundMaker(),
        SafeMaskMaker(methods=["aeff-max"], aeff_percent=10),
    ]
    empty = SpectrumDataset.create(geom, energy_axis_true=true_axis)
    runs = DatasetsMaker(makers, stack_datasets=False).run(empty, observations)
    return runs.stack_reduce(name=name)


def plain_maps(observations, name):
    axis, true_axis = axes_of(MAPS)
    geom = WcsGeom.create(skydir=POSITION, width=1.6, binsz=0.08, proj="TAN", axes=[axis])
    near = CircleSkyRegion(POSITION, 0.3 * u.deg)
    makers = [
        MapDatasetMaker(),
        SafeMaskMaker(
            methods=["aeff-max", "offset-max"],
            aeff_percent=10,
            offset_max=1.2 * u.deg,
            position=POSITION,
        ),
        FoVBackgroundMaker(
            method="scale", exclusion_mask=geom.to_image().region_mask([near], inside=False)
        ),
    ]
    empty = MapDataset.create(geom, energy_axis_true=true_axis, name=name)
    return DatasetsMaker(makers, cutout_width=2.4 * u.deg).run(empty, observations)[0]


def plain_fit(grouping, archive, kind):
    """Values of the source's parameters, by a script as one would write it."""
    reduce = {"1d": plain_spectrum, "3d": plain_maps}[kind]
    spectral = PowerLawSpectralModel(index=3, amplitude="3e-11 cm-2 s-1 TeV-1", reference="1 TeV")
    spatial, backgrounds = None, []
    with captured():
        store = DataStore.from_dir(archive)
        datasets = Datasets(
            [
                reduce(store.get_observations(ids.tolist()), name)
                for name, ids in grouping.groups.items()
            ]
        )
        if kind == "3d":
            spatial = PointSpatialModel(lon_0=POSITION.ra, lat_0=POSITION.dec, frame="icrs")
            for parameter in (spatial.lon_0, spatial.lat_0):
                parameter.min, parameter.max = parameter.value - 0.5, parameter.value + 0.5
            backgrounds = [FoVBackgroundModel(dataset_name=name) for name in datasets.names]
        datasets.models = [SkyModel(spectral, spatial, name="source"), *backgrounds]
        assert Fit().run(datasets).success
    source = datasets.models["source"]
    return {p.name: (p.value, p.error) for p in source.parameters}


@pytest.mark.parametrize(("kind", "content"), [("1d", SPECTRA), ("3d", MAPS)])
def test_pks_2155_agrees_with_a_plain_script(kind, content, grouping, hess_dr1, tmp_path):
    if kind == "3d":
        # Every other run: all of them take a minute, and are in the benchmark.
        grouping = Grouping(grouping.obs_ids[::2], grouping.labels[::2])
        assert grouping.n_groups == 2
    ours = fitted(grouping, hess_dr1, content, tmp_path / "out")
    plain = plain_fit(grouping, hess_dr1, kind)
    for name in ("index", "amplitude"):
        assert_allclose(ours[name][0], plain[name][0], rtol=0.005)
        assert_allclose(ours[name][1], plain[name][1], rtol=0.02)
    if kind == "3d":
        for name in ("lon_0", "lat_0"):
            assert abs(ours[name][0] - plain[name][0]) < 0.2 * plain[name][1]


def largest(result):
    """Largest relative deviation of the stacks from the sum of their runs, whatever the model."""
    groups = result.groups.values()
    return max(abs(one["largest"]) for g in groups for one in g["deviation"].values())


@pytest.mark.parametrize("correction", [True, False])
def test_a_group_of_real_runs_predicts_what_they_predict(correction, grouping, hess_dr1, tmp_path):
    few = Grouping(grouping.obs_ids[::2], grouping.labels[::2])
    found = {}
    for stack in ("exact", "gammapy"):
        region = {"radius": "0.11 deg", "containment_correction": correction}
        content = SPECTRA | {"stack": stack, "region": region, "keep_runs": False}
        config = make_reduce_config(content | {"target": f"{POSITION.ra.deg} {POSITION.dec.deg}"})
        found[stack] = largest(reduce_groups(few, config, tmp_path / stack, hess_dr1))
    assert found["exact"] < 1e-6
    # Without the correction, Gammapy's weights are right.
    assert (found["gammapy"] > 0.01) is correction


def test_maps_of_real_runs_nearly_predict_what_they_predict(grouping, hess_dr1, tmp_path):
    """Thresholds differ: as Gammapy stacks, more than is there is predicted below them."""
    few = Grouping(grouping.obs_ids[::4], [1] * len(grouping.obs_ids[::4]))
    found = {}
    for stack in ("exact", "gammapy"):
        low = {"energy": {"min": "0.2 TeV", "max": "10 TeV", "bins_per_decade": 5}}
        content = MAPS | low | {"energy_true": None, "stack": stack, "keep_runs": False}
        config = make_reduce_config(content | {"target": f"{POSITION.ra.deg} {POSITION.dec.deg}"})
        found[stack] = largest(reduce_groups(few, config, tmp_path / stack, hess_dr1))
    assert found["exact"] < 0.01
    assert found["gammapy"] > 0.05


def test_the_crab_in_1d(hess_dr1, tmp_path):
    """Four runs in two groups: near the published spectrum."""
    grouping = Grouping([23523, 23526, 23559, 23592], [1, 1, 2, 2])
    config = make_reduce_config(
        {"target": "83.63333 22.01444", "energy": {"min": "0.5 TeV", "max": "20 TeV"}}
        | {"fit": {"min": "0.8 TeV", "flux_points_per_decade": 0}}
    )
    result = reduce_groups(grouping, config, tmp_path / "out", hess_dr1)
    assert result.skipped == {}
    fit = fit_reduction(result)[1]
    assert fit.success
    found = {r["name"]: (r["value"], r["error"]) for r in fit.parameters}
    # Aharonian et al. 2006: 3.45e-11, 2.63, with systematic errors of 20 % and 0.1.
    assert abs(found["index"][0] - 2.63) < 0.1 + 2 * found["index"][1]
    assert abs(found["amplitude"][0] - 3.45e-11) < 0.2 * 3.45e-11 + 2 * found["amplitude"][1]


def test_fact_in_groups_by_zenith_angle(fact_crab, tmp_path):
    """Point-like runs of the Crab, two groups, joint fit."""
    table = QTable.read(fact_crab / "obs-index.fits.gz")
    zenith = np.asarray(table["ZEN_PNT"])
    order = np.argsort(zenith)
    ids = np.asarray(table["OBS_ID"])[np.concatenate([order[:6], order[-6:]])]
    config = make_reduce_config(
        {"target": "83.633 22.0145", "background": {"off_regions": 5}}
        | {"energy": {"min": "0.45 TeV", "max": "30 TeV", "bins_per_decade": 5}}
    )
    grouping = Grouping(ids, [1] * 6 + [2] * 6)
    result = reduce_groups(grouping, config, tmp_path / "out", fact_crab)
    assert result.skipped == {}
    assert largest(result) < 1e-6
    fit = fit_reduction(result)[1]
    assert fit.success
    found = {r["name"]: (r["value"], r["error"]) for r in fit.parameters}
    assert 2 < found["index"][0] < 3.5
    assert 2e-11 < found["amplitude"][0] < 6e-11
