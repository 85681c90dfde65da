"""Features of the responses of an archive, against Gammapy and against the floor of unpacking.

    python benchmarks/features.py [archive] [--repeats 5]

Without an archive, H.E.S.S. public data are taken from ``$OBSCLUSTER_TEST_DATA``, from
``shared/data`` beside the repository, or from ``$GAMMAPY_DATA``; where there are none, an archive
of the same size is simulated.

All sides run in the same process, in turn, on files that are in memory, and the medians count. The
floor is nothing but reading and unpacking the same files with isal. Whole processes, imports
included, are timed from outside. Both sides must give the same numbers.
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.table import Table
from isal import igzip

from obscluster import DataStore, get_irfs_features
from obscluster.parallel.engine import get_engine

N_OBS = 105
# Least time of a turn, in seconds.
TURN = 0.5
REQUEST = {"energy_true": "1 TeV", "fixed_offset": 0.5 * u.deg}
SCRIPT = """
import astropy.units as u
from astropy.coordinates import SkyCoord
{imports}
position = SkyCoord(329.71693826, -30.2255890, unit="deg", frame="icrs")
selection = {{
    "type": "sky_circle", "frame": "icrs", "lon": position.ra, "lat": position.dec,
    "radius": 2 * u.deg,
}}
data_store = DataStore.from_dir({archive!r})
selected = data_store.obs_table.select_observations(selection)
observations = data_store.get_observations(selected["OBS_ID"])
features = get_irfs_features(
    observations, energy_true=1 * u.TeV, position=position, names=["edisp-res", "psf-radius"]
)
groups = hierarchical_clustering(standard_scaler(features), fcluster_kwargs={{"t": 2}})
print(sorted(len(group) for group in observations.group_by_label(groups["labels"]).values()))
"""
IMPORTS = {
    "Gammapy": "from gammapy.data import DataStore\n"
    "from gammapy.data.utils import get_irfs_features\n"
    "from gammapy.utils.cluster import hierarchical_clustering, standard_scaler",
    "obscluster": "from obscluster import (\n"
    "    DataStore, get_irfs_features, hierarchical_clustering, standard_scaler\n)",
}


def data_directories() -> Iterator[Path]:
    """Where the public data may be."""
    if "OBSCLUSTER_TEST_DATA" in os.environ:
        yield Path(os.environ["OBSCLUSTER_TEST_DATA"])
    yield Path(__file__).resolve().parents[2] / "shared" / "data"
    if "GAMMAPY_DATA" in os.environ:
        yield Path(os.environ["GAMMAPY_DATA"])


def find_archive(scratch: Path) -> Path:
    """Public data, or a simulated archive."""
    for directory in data_directories():
        if (directory / "hess-dl3-dr1" / "obs-index.fits.gz").is_file():
            return directory / "hess-dl3-dr1"
    from obscluster.simulate import simulate

    print("no public data: an archive is simulated")
    simulate(scratch / "simulated", n_obs=N_OBS)
    return scratch / "simulated"


def unpacked(archive: Path, directory: Path) -> Path:
    """The same archive with plain files."""
    shutil.copytree(archive, directory, copy_function=shutil.copyfile)
    for packed in directory.rglob("*.fits.gz"):
        plain = packed.with_suffix("")
        plain.write_bytes(gzip.decompress(packed.read_bytes()))
        packed.unlink()
    index = Table.read(directory / "hdu-index.fits", unit_parse_strict="silent")
    index["FILE_NAME"] = [str(name).removesuffix(".gz") for name in index["FILE_NAME"]]
    index.write(directory / "hdu-index.fits", overwrite=True)
    for name in ("hdu-index.fits", "obs-index.fits"):
        # Gammapy looks for packed index files.
        (directory / f"{name}.gz").write_bytes(gzip.compress((directory / name).read_bytes()))
        (directory / name).unlink()
    return directory


def in_turn(sides: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median time of each, in seconds, after one round that is not counted.

    Within its turn a fast side is called again and again, as `timeit` does it: a call of some
    hundredths of a second after seconds of something else would measure how processors wake up.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(repeats + 1):
        for name, side in sides.items():
            spent = 0.0
            while spent < TURN:
                start = time.perf_counter()
                side()
                took = time.perf_counter() - start
                spent += took
                if number:
                    times[name].append(took)
    return {name: statistics.median(found) for name, found in times.items()}


def compare(archive: Path, repeats: int, with_floor: bool) -> None:
    """Features of all runs of an archive, from Gammapy and from obscluster."""
    import gammapy.data
    from gammapy.data.utils import get_irfs_features as gammapys

    theirs = gammapy.data.DataStore.from_dir(archive)
    ours = DataStore.from_dir(archive)
    paths = sorted({obs.locations["edisp"].existing_path for obs in ours.get_observations()})

    def floor() -> None:
        for path in paths:
            igzip.decompress(path.read_bytes())

    sides: dict[str, Callable[[], object]] = {
        "Gammapy": lambda: gammapys(theirs.get_observations(), **REQUEST),
        "1 worker": lambda: get_irfs_features(ours.get_observations(), **REQUEST),
        "2 workers": lambda: get_irfs_features(
            ours.get_observations(), **REQUEST, engine=get_engine(2)
        ),
    }
    if with_floor:
        sides["floor"] = floor
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        medians = in_turn(sides, repeats)
        first, second = sides["Gammapy"](), sides["2 workers"]()
    apart = max(
        float(np.nanmax(np.abs(u.Quantity(first[name]) / second[name] - 1).value))
        for name in ("edisp-bias", "edisp-res", "psf-radius")
    )
    print(
        f"get_irfs_features, {len(paths)} files, medians of {repeats} turns; apart by {apart:.1g}"
    )
    for name, seconds in medians.items():
        text = f"  {name:10} {seconds:8.4f} s"
        if name in ("1 worker", "2 workers"):
            text += f"  {medians['Gammapy'] / seconds:6.1f} times faster than Gammapy"
            if with_floor:
                text += f", {seconds / medians['floor']:.2f} of the floor"
        print(text)


def whole_processes(archive: Path, repeats: int) -> None:
    """Select, features, scale, cluster, groups: from the start of Python."""

    def run(code: str) -> None:
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True
        )

    scripts = {
        name: SCRIPT.format(imports=imports, archive=str(archive))
        for name, imports in IMPORTS.items()
    }
    for what, codes in {
        "whole process, 21 runs of PKS 2155-304": scripts,
        "import": {"Gammapy": "import gammapy.data", "obscluster": "import obscluster"},
        "import with DataStore": {
            "Gammapy": "from gammapy.data import DataStore",
            "obscluster": "from obscluster import DataStore",
        },
    }.items():
        sides = {name: lambda code=code: run(code) for name, code in codes.items()}
        medians = in_turn(sides, repeats)
        ratio = medians["Gammapy"] / medians["obscluster"]
        figures = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in medians.items())
        print(f"{what}: {figures}; {ratio:.1f} times faster")


def main() -> None:
    """Time everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", nargs="?", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        archive = arguments.archive or find_archive(Path(scratch))
        print(f"{archive.name}, as it is")
        compare(archive, arguments.repeats, with_floor=True)
        print("the same, unpacked")
        compare(unpacked(archive, Path(scratch) / "plain"), arguments.repeats, with_floor=False)
        whole_processes(archive, arguments.repeats)


if __name__ == "__main__":
    main()
