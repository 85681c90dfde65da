"""From groups to a joint fit: the spectrum of a source from a few stacked datasets.

The runs on a source are put into groups, each group is reduced with Gammapy and stacked to one
dataset, and one spectrum is fitted to all datasets together. At the end stands what this costs,
against the fit of every run apart.

    python groups_to_fit.py [ARCHIVE] [OUTPUT] [TARGET]

ARCHIVE is a directory with obs-index and hdu-index files; a small simulated one unless told. TARGET
is where the source is (default: what was observed most). Results go to OUTPUT (default:
groups_to_fit/). Needs the extra: pip install "obscluster[reduce]". The cells run one by one in a
notebook, too.
"""

# %% The archive and the target.
# In a notebook, write here where yours is.
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
from astropy.table import QTable

from obscluster import DataStore
from obscluster.archive.selection import target_names
from obscluster.config import make_config
from obscluster.plots.spectra import plot_residuals, plot_spectrum
from obscluster.reduction import (
    compare_groupings,
    fit_reduction,
    make_reduce_config,
    reduce_groups,
    write_fit,
)
from obscluster.reduction.comparison import describe_comparison
from obscluster.simulate import simulate
from obscluster.workflow.group import group_observations, write_results

archive = sys.argv[1] if len(sys.argv) > 1 else None
output = Path(sys.argv[2] if len(sys.argv) > 2 else "groups_to_fit")
if archive is None:
    archive = simulate(
        Path(tempfile.mkdtemp()) / "archive", n_obs=24, size="small", zenith_range=(44, 48)
    )
names = target_names(DataStore.from_dir(archive).obs_table)
target = sys.argv[3] if len(sys.argv) > 3 else next(iter(names))

# %% Two groups of runs whose responses are alike.
description = {
    "archive": str(archive),
    "target": target,
    "features": {"names": ["psf-r68", "edisp-res68"], "energy": ["1 TeV"]},
    "grouping": {"method": "hierarchical", "n_groups": 2},
}
result = group_observations(make_config(description))
write_results(result, output / "groups", overwrite=True)
print(f"{target}\n{result.grouping}")

# %% Each group to one dataset: spectra in a circle, background from reflected regions.
# The single runs are kept for the comparison below; leave them out if there are many.
settings = make_reduce_config(
    {
        "kind": "1d",
        "energy": {"min": "0.5 TeV", "max": "50 TeV", "bins_per_decade": 8},
        "region": {"radius": "0.11 deg"},
        "fit": {"model": "power-law", "reference": "1 TeV", "flux_points_per_decade": 2},
        "keep_runs": True,
    }
)
reduction = reduce_groups(output / "groups", settings, output / "datasets", overwrite=True)
print()
for name, group in reduction.groups.items():
    print(
        f"{name}: {len(group['obs_ids'])} runs, {group['livetime']}, {group['counts']} counts, "
        f"{group['background']:.0f} of them expected background"
    )

# %% One spectrum for both datasets.
reduction, fit = fit_reduction(reduction)
write_fit(fit, reduction, output / "fit", overwrite=True, plots=False)
print(f"\n{fit}")

fig, (left, right) = plt.subplots(1, 2, figsize=(12, 4.8), layout="constrained")
tables = {
    name: QTable.read(output / "fit" / f"{name}.ecsv", format="ascii.ecsv")
    for name in ("spectrum", "flux_points", "residuals")
}
plot_spectrum(tables["spectrum"], tables["flux_points"], ax=left)
n_runs = {name: len(group["obs_ids"]) for name, group in reduction.groups.items()}
plot_residuals(tables["residuals"], n_runs, ax=right)
left.set_title(f"{target}: joint fit of the groups", fontsize="medium")
right.set_title("is it right for each of them?", fontsize="medium")
fig.savefig(output / "fit.png", dpi=120)
plt.close(fig)

# %% What did stacking cost? The same fit with every run apart, in groups, and all stacked.
comparison = compare_groupings(reduction, memory=False)
print(f"\n{describe_comparison(comparison)}")
print(f"\nresults in {output}")
