"""Groups for background models: bins of zenith angle that each hold enough livetime.

A background model is made of many runs with no bright source. It holds for runs at similar zenith
angle, with the same telescopes, and it needs enough of them: a narrow bin with little livetime is
noise, a wide one mixes rates that differ. This looks for the narrowest bins that hold enough.

    python background_groups.py [ARCHIVE] [OUTPUT]

ARCHIVE is a directory with obs-index and hdu-index files; a small simulated one unless told. Plots
and groups go to OUTPUT (default: background_groups/). The cells run one by one in a notebook, too.
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

from obscluster import DataStore, get_features, plot_conditions
from obscluster.archive.obs_table import livetimes
from obscluster.config import make_config
from obscluster.simulate import simulate
from obscluster.workflow.group import group_observations, write_results

archive = sys.argv[1] if len(sys.argv) > 1 else None
output = Path(sys.argv[2] if len(sys.argv) > 2 else "background_groups")
if archive is None:
    archive = simulate(Path(tempfile.mkdtemp()) / "archive", n_obs=120, size="small", events=False)

obs_table = DataStore.from_dir(archive).obs_table
total = livetimes(obs_table).sum()
print(f"{len(obs_table)} runs, {total:.1f} h")


# %% Bins of cos(zenith), the thickness of the air, as narrow as the minimum allows.
# Runs with different numbers of telescopes are never mixed.
def bins_of(min_livetime):
    """Groups whose bins each hold at least so many hours."""
    description = {
        "archive": str(archive),
        "grouping": {"method": "cuts", "by": [{"column": "cos-zenith", "adaptive": True}]},
        "constraints": {"min_livetime": f"{min_livetime:.3g} h", "within": ["N_TELS"]},
    }
    return group_observations(make_config(description))


def hours_of(result):
    """Livetime of each group."""
    hours = livetimes(result.obs_table)
    labels = result.grouping.labels
    return np.array([hours[labels == k].sum() for k in range(1, result.grouping.n_groups + 1)])


def width_of(values, labels):
    """Range of values within a group, in the middle of all groups."""
    groups = [values[labels == k] for k in range(1, labels.max() + 1)]
    return np.median([np.nanmax(group) - np.nanmin(group) for group in groups])


# %% What does more livetime cost? Wider bins, in which the rates differ more.
choices = {share: bins_of(total / share) for share in (40, 20, 10, 5)}
first = next(iter(choices.values()))
observations = first.data_store.get_observations(first.grouping.obs_ids, skip_missing=True)
zenith = first.obs_table["ZEN_PNT"].to(u.deg).value
rates = get_features(observations, ["bkg-rate"], energy="1 TeV", fixed_offset="0.5 deg")["bkg-rate"]
rates = np.array(rates.value)

rows = []
for share, result in choices.items():
    labels = result.grouping.labels
    spread = width_of(np.log(rates), labels) if np.isfinite(rates).all() else np.nan
    rows.append(
        {
            "minimum [h]": f"{total / share:.2f}",
            "groups": result.grouping.n_groups,
            "least [h]": f"{hours_of(result).min():.2f}",
            "zenith differs by [deg]": f"{width_of(zenith, labels):.1f}",
            "rates differ by": f"{np.expm1(spread):.0%}" if np.isfinite(spread) else "-",
            "runs in no group": (labels < 0).sum(),
        }
    )
print("\nbackground rates above 1 TeV, 0.5 deg off axis, and how much they differ within a bin\n")
Table(rows).pprint_all()

# %% The choice: a tenth of all livetime for each model.
share = 10
result = choices[share]
hours = hours_of(result)
print(f"\n{result.grouping}")
for remark in result.grouping.remarks:
    print(f"note: {remark}")

fig, (left, right) = plt.subplots(1, 2, figsize=(12, 4.8), layout="constrained")
y = "MUONEFF" if "MUONEFF" in result.obs_table.colnames else "AZ_PNT"
plot_conditions(result.obs_table, result.grouping.labels, y=y, ax=left)
left.set_title("runs of each background model", fontsize="medium")
numbers = np.arange(1, len(hours) + 1)
right.bar(numbers, hours, color="0.7", edgecolor="0.3")
right.axhline(total / share, color="black", linestyle="--", label="minimum")
right.set(xlabel="group", ylabel="livetime [h]", xticks=numbers)
right.set_title("no model with less than the minimum", fontsize="medium")
right.legend(loc="lower right")
output.mkdir(exist_ok=True)
fig.savefig(output / "background_groups.png", dpi=120)
plt.close(fig)

# %% Kept: one list of runs for each model, and a rule by which new runs find theirs
# (`obscluster assign OUTPUT ARCHIVE`).
files = write_results(result, output / "groups", overwrite=True, plots=False)
print(f"\nin {output / 'groups'}: {', '.join(files)}")
