"""A quick look: which runs there are, what tells them apart, and how many groups they make.

    python quick_look.py [ARCHIVE] [OUTPUT]

ARCHIVE is a directory with obs-index and hdu-index files; a small simulated one unless told. Plots
and groups go to OUTPUT (default: quick_look/). The cells run one by one in a notebook, too.
"""

# %% The archive.
# In a notebook, write here where yours is.
import sys
import tempfile
from pathlib import Path

import astropy.units as u
import matplotlib.pyplot as plt
import numpy as np
from astropy.table import Table

from obscluster import (
    DataStore,
    get_features,
    group_hierarchical,
    plot_conditions,
    plot_dendrogram,
    plot_features,
    plot_quality,
    scale_features,
)
from obscluster.archive.obs_table import livetimes
from obscluster.archive.selection import resolve_target, target_names
from obscluster.assessment import outliers, quality, suggest_n_groups
from obscluster.simulate import simulate

archive = sys.argv[1] if len(sys.argv) > 1 else None
output = Path(sys.argv[2] if len(sys.argv) > 2 else "quick_look")
if archive is None:
    archive = simulate(Path(tempfile.mkdtemp()) / "archive", n_obs=60, size="small", events=False)
output.mkdir(exist_ok=True)

data_store = DataStore.from_dir(archive)
print(data_store.info(show=False))

# %% The runs on the target that was observed most.
name, n_runs = next(iter(target_names(data_store.obs_table).items()))
target = resolve_target(data_store.obs_table, name, radius="2 deg")
obs_table = data_store.obs_table.select_observations(target.selection)
observations = data_store.get_observations(obs_table["OBS_ID"])
hours = livetimes(obs_table)
zenith = obs_table["ZEN_PNT"].to(u.deg)
print(f"\n{name}: {len(observations)} runs, {hours.sum():.1f} h,", end=" ")
print(f"zenith angle {np.min(zenith):.1f} to {np.max(zenith):.1f}")

# %% What the responses say of each run at 1 TeV, where the target is in the field of view.
names = ["psf-r68", "edisp-res68", "aeff"]
features = get_features(observations, names, energy="1 TeV", position=target.position)
for feature in names:
    features[feature].info.format = ".4g"
print(f"\n{features}")

# %% Three features of different units: a difference counts in units of the scatter.
# How many groups? Take the tree, cut it everywhere, and see what each cut is worth.
scaled = scale_features(features, "standard")
labels = {
    n: group_hierarchical(scaled, fcluster_kwargs={"t": n}).labels
    for n in range(1, min(8, len(features)) + 1)
}
table = quality(features, scaled, labels)
suggestion = suggest_n_groups(table)
print(f"\nsuggested: {suggestion}")

plot_quality(table, suggestion)
plt.savefig(output / "quality.png", dpi=120)
plt.close()

# %% The groups.
grouping = group_hierarchical(scaled, fcluster_kwargs={"t": suggestion.n_groups})
rows = []
for label in range(1, grouping.n_groups + 1):
    inside = grouping.labels == label
    row = {"group": label, "runs": inside.sum(), "hours": f"{hours[inside].sum():.1f}"}
    row["zenith [deg]"] = f"{zenith[inside].value.min():.0f} to {zenith[inside].value.max():.0f}"
    for feature in names:
        values = features[feature][inside]
        unit = f" [{values.unit}]" if str(values.unit) else ""
        row[f"{feature}{unit}"] = f"{values.value.min():.3g} to {values.value.max():.3g}"
    rows.append(row)
print()
Table(rows).pprint_all()
odd = outliers(scaled, grouping)
print(f"\nfar from every group: {', '.join(map(str, odd['obs_id'])) or 'no run'}")

# %% The same as pictures: conditions, features, and the tree with its cut.
fig, axes = plt.subplots(1, 3, figsize=(16, 4.8), layout="constrained")
plot_conditions(obs_table, grouping.labels, ax=axes[0])
plot_features(features, grouping.labels, x="edisp-res68", y="psf-r68", ax=axes[1])
plot_dendrogram(grouping.linkage, grouping.labels, height_label="Ward distance", ax=axes[2])
axes[0].set_title(f"{name}: how the runs were taken", fontsize="medium")
axes[1].set_title("what their responses are at 1 TeV", fontsize="medium")
axes[2].set_title("and how alike they are", fontsize="medium")
fig.savefig(output / "groups.png", dpi=120)
plt.close(fig)

# %% Kept for later: `Grouping.read(output)` has it back.
grouping.write(output, features)
print(f"\nplots and groups in {output}")
