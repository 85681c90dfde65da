"""An information budget: how few groups will do, if a measurement may get worse by only so much.

Stacking runs whose responses differ throws information away. How much, depends on the source: a
faint one suffers from mixed PSFs, a bright one hardly does. Here the question is turned around:
what may be lost is given, and the groups follow.

    python information_budget.py [ARCHIVE] [OUTPUT] [TARGET]

ARCHIVE is a directory with obs-index and hdu-index files; a small simulated one unless told. TARGET
is where the source is (default: what was observed most). Plots go to OUTPUT (default:
information_budget/). The cells run one by one in a notebook, too.
"""

# %% The archive and the target.
# In a notebook, write here where yours is.
import sys
import tempfile
from pathlib import Path

import astropy.units as u
import matplotlib.pyplot as plt
from astropy.table import Table

from obscluster import DataStore
from obscluster.archive.selection import target_names
from obscluster.config import make_config
from obscluster.information.loss import loss_table
from obscluster.plots.quality import plot_frontier
from obscluster.simulate import simulate
from obscluster.workflow.frontier import frontier
from obscluster.workflow.group import group_observations
from obscluster.workflow.runs import characterise, scores_of

archive = sys.argv[1] if len(sys.argv) > 1 else None
output = Path(sys.argv[2] if len(sys.argv) > 2 else "information_budget")
if archive is None:
    archive = simulate(
        Path(tempfile.mkdtemp()) / "archive", n_obs=60, seed=4, size="small", events=False
    )
names = target_names(DataStore.from_dir(archive).obs_table)
target = sys.argv[3] if len(sys.argv) > 3 else next(iter(names))
budget = 0.01

# %% Two sources in the same place: one at the edge of detection, and one as bright as they come.
sources = {"faint": "0.6 % Crab", "bright": "1 Crab"}


def describe(amplitude, **more):
    """What is asked for a source of such a flux, a power law of index 2.7."""
    source = {"amplitude": amplitude, "index": 2.7}
    return make_config({"archive": str(archive), "target": target, "source": source} | more)


# %% For each: what is lost with 1, 2, 3, ... groups, by several ways to group.
tables = {}
for name, amplitude in sources.items():
    config = describe(amplitude)
    runs = characterise(config)
    tables[name] = frontier(config, runs, scores_of(config, runs), max_groups=8)
print(f"{target}: {len(runs.obs_table)} runs\n\nlost information, with the best groups\n")
rows = []
for n_groups in sorted(set(tables["faint"]["n_groups"])):
    row = {"groups": n_groups}
    for name, table in tables.items():
        best = table[(table["grouping"] == "information") & (table["n_groups"] == n_groups)]
        if len(best):
            row[f"{name} source"] = f"{float(best['loss'][0]):.2%}"
            row[f"{name}: time lost"] = f"{best['lost_time'][0].to_value(u.h):.2f} h"
    rows.append(row)
Table(rows).pprint_all()

fig, axes = plt.subplots(1, 2, figsize=(12, 4.8), layout="constrained", sharey=True)
for ax, (name, table) in zip(axes, tables.items(), strict=True):
    plot_frontier(table, ax=ax)
    ax.axhline(budget, color="black", linewidth=0.8, linestyle=":")
    ax.set_title(f"{name} source, {sources[name]}", fontsize="medium")
axes[1].set_ylabel("")
lost = [float(loss) for table in tables.values() for loss in table["loss"] if loss > 0]
axes[0].set_ylim(min(lost) / 2, max(*lost, budget) * 2)
output.mkdir(exist_ok=True)
fig.savefig(output / "frontier.png", dpi=120)
plt.close(fig)

# %% The fewest groups that keep to the budget.
print(f"\na budget of {budget:.0%} needs:")
results = {}
for name, amplitude in sources.items():
    grouping = {"method": "information", "max_loss": budget}
    results[name] = group_observations(describe(amplitude, grouping=grouping))
    print(f"  {name} source: {results[name].grouping.remarks[-1]}")

# %% And if the groups of the one source are used for the other?
config = describe(sources["faint"])
scores = scores_of(config, runs)
labels = {
    f"groups for the {name} source": result.grouping.label_of(scores.obs_ids)
    for name, result in results.items()
}
print(f"\non the faint source ({sources['faint']}) are lost:")
for row in loss_table(scores, labels):
    growth = ", ".join(f"{p} error +{float(row[f'{p} inflation']):.2%}" for p in scores.names)
    print(f"  {row['grouping']} ({row['n_groups']}): {float(row['loss']):.2%}; {growth}")
print(f"\nplot in {output}")
