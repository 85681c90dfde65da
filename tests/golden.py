"""The golden set: what commands write, for a comparison before and after a change of the house.

    python tests/golden.py before.txt      # in the old state
    python tests/golden.py after.txt       # in the new one
    diff before.txt after.txt

Each line is a file of a result with its SHA-256, or what a command printed, with its exit code. The
commands run on simulated archives, and on the real ones where they are found (the same ones in both
states: records name them). What a command prints may be reworded; the files may not change by a
byte, but for the times that Gammapy writes into its own, and the sums over these files.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from conftest import data_directories

# Always the same place, since records name the archive.
PLACE = Path(tempfile.gettempdir()) / "obscluster-golden"
TIMES = re.compile(
    rb"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d\.\d+|seconds: \S+|sha256:[0-9a-f]{64}"
    rb"|checksum: '?[0-9a-f]{32}|^[0-9a-f]{64}  |(CHECKSUM|DATASUM) ?= *'[^']*'",
    re.MULTILINE,
)
PKS = ["--target", "329.71693826 -30.2255890"]
TWO = ["--energy", "1 TeV", "--features", "edisp-res", "psf-radius", "--n-groups", "2"]
ENERGY = ["--energy-range", "0.2 TeV", "20 TeV", "--bins-per-decade", "5"]

SIMULATED = {
    "simulate": ["simulate", "sim", "--n-obs", "30", "--size", "small"],
    "simulate-king": ["simulate", "king", "--n-obs", "6", "--size", "small", "--psf", "psf_king"],
    "info": ["info", "sim"],
    "check": ["check", "sim", "-o", "check.ecsv"],
    "check-king": ["check", "king"],
    "init": ["init", "sim", "-o", "run.yaml"],
    "init-reduce": ["init", "sim", "-o", "reduce.yaml", "--reduce"],
    "features": ["features"],
    "kmeans": ["group", "sim", "--method", "kmeans", "--n-groups", "3", "-o", "kmeans"],
    "auto": ["group", "sim", "--n-groups", "auto", "-o", "auto"],
    "hdbscan": ["group", "sim", "--method", "hdbscan", "-o", "hdbscan"],
    "mixture": ["group", "sim", "--method", "mixture", "-o", "mixture"],
    "spread": [
        "group",
        "sim",
        "--method",
        "spread",
        "--max-spread",
        "zenith=10 deg",
        "-o",
        "spread",
    ],
    "cuts": ["group", "sim", "--by", "ZEN_PNT", "--quantiles", "3", "-o", "cuts"],
    "contiguous": ["group", "sim", "--contiguous", "--n-groups", "3", "-o", "contiguous"],
    "unknown-feature": ["group", "sim", "--features", "psf-r86", "-o", "nothing"],
    "no-archive": ["group", "nowhere", "-o", "nothing"],
    "compare": ["compare", "kmeans", "auto"],
    "index": ["index", "king/data", "-o", "index"],
}
REAL_ARCHIVES = {
    "hess": ["group", "{hess}", *PKS, *TWO, "-o", "hess"],
    "hess-info": ["info", "{hess}"],
    "hess-information": ["group", "{hess}", *PKS, "--method", "information", "--n-groups", "3",
                         "--flux", "0.6 % Crab", "-o", "hess-information"],
    "hess-frontier": ["frontier", "{hess}", *PKS, "--max-groups", "6", "-o", "hess-frontier"],
    "hess-assess": ["assess", "hess", "--resamples", "10", "-o", "hess-assess"],
    "hess-report": ["report", "hess", "-o", "hess.html"],
    "hess-assign": ["assign", "hess", "{hess}", "-o", "hess-assign"],
    "hess-reduce": ["reduce", "hess", *ENERGY, "-o", "hess-reduce"],
    "hess-fit": ["fit", "hess-reduce", "-o", "hess-fit", "--no-plots"],
    "cta": ["group", "{cta}", "--features", "psf-r68", "aeff", "--energy", "1 TeV", "-o", "cta"],
    "cta-check": ["check", "{cta}"],
    "fact": ["group", "{fact}", "--by", "ZEN_PNT", "--cut", "median", "-o", "fact"],
    "fact-init": ["init", "{fact}", "-o", "fact.yaml"],
}  # fmt: skip


def main(listing: Path) -> None:
    """Run all commands, and write what came of them."""
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir()
    commands = dict(SIMULATED)
    names = {"hess": "hess-dl3-dr1", "cta": "cta-1dc", "fact": "fact-crab"}
    found = {
        key: str(directory / name)
        for directory in data_directories()
        for key, name in names.items()
        if (directory / name).is_dir()
    }
    if len(found) == len(names):
        commands |= REAL_ARCHIVES
    lines = []
    for name, arguments in commands.items():
        done = subprocess.run(
            [sys.executable, "-m", "obscluster", *(text.format(**found) for text in arguments)],
            capture_output=True, cwd=PLACE, check=False, env={**os.environ, "COLUMNS": "100"},
        )  # fmt: skip
        printed = hashlib.sha256(done.stdout).hexdigest()[:16]
        lines.append(f"{name}: exit code {done.returncode}, printed {printed}")
        print(lines[-1], flush=True)
        if done.returncode not in (0, 2):
            print(done.stderr.decode()[-500:])
    files = (path for path in PLACE.rglob("*") if path.is_file())
    lines += sorted(
        f"{path.relative_to(PLACE)} {hashlib.sha256(TIMES.sub(b'', path.read_bytes())).hexdigest()}"
        for path in files
    )
    listing.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
