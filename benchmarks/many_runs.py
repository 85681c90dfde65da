"""An archive of many runs: index, features, the same again from the cache, and some runs more.

    python benchmarks/many_runs.py [--runs 20000] [--workers 2] [--directory DIR]

The archive is made of simulated runs with small responses in plain FITS files (2 GB for 20,000
runs); a few hundred runs are simulated, and written again under other identifiers. Each step runs
in a process of its own, for its memory, with imports counted. There is no peer: Gammapy takes about
40 ms a run.
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy.table import Table

from obscluster.simulate import simulate

N_SIMULATED, N_MORE = 400, 100
# Between identifiers of the copies of a run.
STRIDE = 10_000_000
NAMES = [
    *("edisp-bias", "edisp-res", "edisp-bias50", "edisp-res68"),
    *("psf-radius", "psf-r68", "psf-r95", "aeff", "aeff-threshold", "bkg-rate"),
]
ENERGIES = ["0.5 TeV", "1 TeV", "5 TeV"]


def make_runs(directory: Path, n_runs: int, n_simulated: int = N_SIMULATED) -> None:
    """Write run files: plain FITS, without index."""
    with tempfile.TemporaryDirectory() as scratch:
        simulate(scratch, n_obs=min(n_simulated, n_runs), size="small", bkg="bkg_2d")
        table = Table.read(Path(scratch) / "obs-index.fits.gz", unit_parse_strict="silent")
        packed = sorted((Path(scratch) / "data").iterdir())
        contents = [gzip.decompress(path.read_bytes()) for path in packed]
    obs_ids = np.asarray(table["OBS_ID"]).tolist()
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(n_runs):
        copy, which = divmod(number, len(contents))
        obs_id = obs_ids[which]
        new = obs_id + copy * STRIDE
        card, other = (f"OBS_ID  = {i:20}".encode() for i in (obs_id, new))
        # Spread over directories, as archives are.
        place = directory / f"{copy:03}"
        place.mkdir(exist_ok=True)
        (place / f"run_{new:010}.fits").write_bytes(contents[which].replace(card, other))


def step(name: str, archive: Path, workers: int) -> None:
    """One step, to be run in a process of its own."""
    start = time.perf_counter()
    from obscluster import DataStore
    from obscluster.features.table import get_features
    from obscluster.gadf.discover import discover, write_index_files
    from obscluster.parallel.engine import get_engine

    result: dict[str, float | int | str] = {}
    if name == "index":
        found = discover(archive / "data", base_dir=archive)
        write_index_files(found, archive, overwrite=True)
        result["runs"] = len(found.obs_table)
    else:
        store = DataStore.from_dir(archive)
        features = get_features(
            store.get_observations(),
            NAMES,
            ENERGIES,
            fixed_offset="0.5 deg",
            engine=get_engine(workers),
            cache=None if name == "features" else archive / "cache",
        )
        result["runs"] = len(features)
        result["missing"] = int(
            sum(np.isnan(features[n].value).sum() for n in features.meta["names"])
        )
        values = np.array([features[n].value for n in features.meta["names"]])
        result["sum"] = float(np.nansum(values / np.nanmax(values, axis=1, keepdims=True)))
    result["seconds"] = time.perf_counter() - start
    # Their memory is known once they have ended.
    for process in multiprocessing.active_children():
        process.join()
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    result["GB"] = (own + children * (workers - 1)) / 1024**2
    print(json.dumps(result))


def run_step(name: str, archive: Path, workers: int) -> dict[str, float]:
    """The same, from outside."""
    command = [sys.executable, __file__, "--step", name, "--directory", str(archive)]
    done = subprocess.run(
        [*command, "--workers", str(workers)], check=True, capture_output=True, text=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Time every step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--step", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        step(arguments.step, arguments.directory, arguments.workers)
        return
    with tempfile.TemporaryDirectory() as scratch:
        archive = arguments.directory or Path(scratch)
        make_runs(archive / "data", arguments.runs)
        print(f"{arguments.runs:,} runs, {len(NAMES)} features, {len(ENERGIES)} energies,")
        print(f"{arguments.workers} workers; time and memory of whole processes")
        steps = {
            "index": "index written from the files",
            "features": "features, without a cache",
            "first": "features, into an empty cache",
            "again": "the same again",
        }
        total = 0.0
        for name, text in steps.items():
            found = run_step(name, archive, arguments.workers)
            total += found["seconds"] if name in ("index", "features") else 0.0
            print(f"  {text:34} {found['seconds']:7.2f} s  {found['GB']:.2f} GB")
        print(f"  index and features                 {total:7.2f} s")
        make_more(archive, arguments.runs)
        for name, text in {"index": "index anew", "more": f"features, {N_MORE} runs more"}.items():
            found = run_step(name, archive, arguments.workers)
            print(f"  {text:34} {found['seconds']:7.2f} s  {found['runs']:,} runs")


def make_more(archive: Path, n_runs: int) -> None:
    """Add runs: copies of the first ones under identifiers that nobody has."""
    more = archive / "data" / "more"
    more.mkdir()
    copies = 1 + n_runs // N_SIMULATED
    for path in sorted((archive / "data" / "000").iterdir())[:N_MORE]:
        obs_id = int(path.stem.removeprefix("run_"))
        card, other = (f"OBS_ID  = {i:20}".encode() for i in (obs_id, obs_id + copies * STRIDE))
        name = f"run_{obs_id + copies * STRIDE:010}.fits"
        (more / name).write_bytes(path.read_bytes().replace(card, other))


if __name__ == "__main__":
    main()
