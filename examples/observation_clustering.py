"""Group the H.E.S.S. observations of PKS 2155-304 in two ways.

First by hand, at the median zenith angle; then by clustering what the instrument response says of
the quality of each run: energy resolution and width of the point-spread function at 1 TeV.

The names are Gammapy's: with the import lines changed, the same script runs there.

    python observation_clustering.py [ARCHIVE] [OUTPUT]

ARCHIVE is hess-dl3-dr1 (default: $GAMMAPY_DATA/hess-dl3-dr1), OUTPUT a directory for the plots;
without it they are shown.
"""

import sys
from pathlib import Path

import astropy.units as u
import matplotlib.pyplot as plt
import numpy as np
from astropy.coordinates import SkyCoord

from obscluster import DataStore, get_irfs_features, hierarchical_clustering, standard_scaler

archive = sys.argv[1] if len(sys.argv) > 1 else "$GAMMAPY_DATA/hess-dl3-dr1"
output = Path(sys.argv[2]) if len(sys.argv) > 2 else None


def finish(name):
    """Show the figure, or save it."""
    if output is None:
        plt.show()
    else:
        output.mkdir(exist_ok=True)
        plt.savefig(output / name, dpi=120)
        plt.close()


# The observations that point within 2 deg of the source.
data_store = DataStore.from_dir(archive)
selection = {
    "type": "sky_circle",
    "frame": "icrs",
    "lon": "329.71693826 deg",
    "lat": "-30.2255890 deg",
    "radius": "2 deg",
}
obs_table = data_store.obs_table.select_observations(selection)
observations = data_store.get_observations(obs_table["OBS_ID"])

zenith = obs_table["ZEN_PNT"].to(u.deg)
muoneff = obs_table["MUONEFF"]
print(f"{len(observations)} observations")
print(f"zenith angle from {np.min(zenith):.2f} to {np.max(zenith):.2f}")
print(f"muon efficiency from {np.min(muoneff):.2f} to {np.max(muoneff):.2f}")

# Two groups by hand: below and above the median zenith angle.
median_zenith = np.median(zenith)
labels = [
    "low_zenith" if obs.get_pointing_altaz(time=obs.tmid).zen < median_zenith else "high_zenith"
    for obs in observations
]
by_zenith = observations.group_by_label(labels)
print(by_zenith)

fig, ax = plt.subplots(figsize=(7, 5), layout="constrained")
for group, style in (("group_low_zenith", "d"), ("group_high_zenith", "o")):
    ax.plot(
        [obs.get_pointing_altaz(time=obs.tmid).zen.deg for obs in by_zenith[group]],
        [obs.meta.optional["MUONEFF"] for obs in by_zenith[group]],
        style,
        label=group,
    )
ax.axvline(median_zenith.value, color="black", linestyle="--", label="median")
ax.set_xlabel("Zenith angle [deg]")
ax.set_ylabel("Muon efficiency")
ax.legend()
finish("zenith.png")

# Two groups by the quality of the response at 1 TeV.
source = SkyCoord(329.71693826 * u.deg, -30.2255890 * u.deg, frame="icrs")
names = ["edisp-res", "psf-radius"]
features = get_irfs_features(observations, energy_true="1 TeV", position=source, names=names)
print(features)

scaled_features = standard_scaler(features)
print(scaled_features)

clustered = hierarchical_clustering(scaled_features, fcluster_kwargs={"t": 2})
print(clustered)

by_response = observations.group_by_label(clustered["labels"])
print(by_response)

fig, ax = plt.subplots(figsize=(7, 5), layout="constrained")
for label, style in ((1, "d"), (2, "o")):
    group = features[clustered["labels"] == label]
    ax.plot(group["edisp-res"], group["psf-radius"], style, label=f"group {label}")
ax.set_xlabel("Energy resolution at 1 TeV")
ax.set_ylabel("68 % containment radius at 1 TeV [deg]")
ax.legend()
finish("features.png")
