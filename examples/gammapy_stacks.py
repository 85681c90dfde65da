"""Does the stack of three runs predict what the runs predict? Gammapy alone, see docs/stacks.md.

python gammapy_stacks.py $GAMMAPY_DATA/hess-dl3-dr1
"""

import sys

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from gammapy.data import DataStore
from gammapy.datasets import Datasets, MapDataset, SpectrumDataset
from gammapy.makers import MapDatasetMaker, SafeMaskMaker, SpectrumDatasetMaker
from gammapy.maps import MapAxis, RegionGeom, WcsGeom
from gammapy.modeling.models import PointSpatialModel, PowerLawSpectralModel, SkyModel
from regions import CircleSkyRegion

target = SkyCoord("329.717 -30.226", unit="deg")
axis = MapAxis.from_energy_bounds("0.2 TeV", "20 TeV", nbin=5, per_decade=True)
true = MapAxis.from_energy_bounds("0.1 TeV", "40 TeV", nbin=10, per_decade=True, name="energy_true")
safe = SafeMaskMaker(methods=["aeff-max"], aeff_percent=10, position=target)


def signal(dataset, model):
    """Predicted counts in each energy, inside the safe mask."""
    dataset.models = [model]
    npred = dataset.npred_signal().data * dataset.mask_safe.data
    dataset.models = None
    return npred.sum(axis=(1, 2))


def compare(runs, model):
    """Print how far the stack is from the sum of its runs."""
    total = sum(signal(run, model) for run in runs)
    stack = signal(Datasets(runs).stack_reduce(name="stack"), model)
    with np.errstate(invalid="ignore"):
        print(np.round(100 * (stack / total - 1), 2), "% from the sum of the runs")


observations = DataStore.from_dir(sys.argv[1]).get_observations([33787, 33799, 47802])
spectrum = PowerLawSpectralModel(index=3.5)

region = RegionGeom.create(CircleSkyRegion(target, 0.11 * u.deg), axes=[axis])
maker = SpectrumDatasetMaker(["counts", "exposure", "edisp"], containment_correction=True)
runs = []
for observation in observations:
    empty = SpectrumDataset.create(region, energy_axis_true=true, name=f"1d-{observation.obs_id}")
    runs.append(safe.run(maker.run(empty, observation), observation))
compare(runs, SkyModel(spectrum))

geom = WcsGeom.create(skydir=target, width=3, binsz=0.05, axes=[axis])
point = PointSpatialModel(lon_0=target.ra, lat_0=target.dec, frame="icrs")
runs = []
for observation in observations:
    empty = MapDataset.create(geom, energy_axis_true=true, name=f"3d-{observation.obs_id}")
    runs.append(safe.run(MapDatasetMaker().run(empty, observation), observation))
compare(runs, SkyModel(spectrum, point))
