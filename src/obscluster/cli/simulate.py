"""``obscluster simulate``: an archive whose truth is known."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from obscluster.cli.common import add_command, progress_bar
from obscluster.cli.terminal import say

EXAMPLES = """\
examples:
  obscluster simulate demo-archive/ --n-obs 60 --seed 1
"""


def add(commands: Any) -> None:
    """Describe the arguments."""
    summary = "write a simulated archive whose true epochs are known"
    command = add_command(commands, "simulate", summary, EXAMPLES, run)
    command.add_argument("directory", type=Path, help="where the archive is to be")
    command.add_argument("--n-obs", type=int, default=60, metavar="N", help="runs (default: 60)")
    command.add_argument("--seed", type=int, default=1, help="same seed, same archive (default: 1)")
    command.add_argument(
        "--n-epochs", type=int, default=3, metavar="N", help="instrument epochs (default: 3)"
    )
    command.add_argument(
        "--psf",
        choices=["psf_table", "psf_3gauss", "psf_king"],
        default="psf_table",
        help="format of the PSF (default: psf_table)",
    )
    command.add_argument(
        "--bkg",
        choices=["bkg_3d", "bkg_2d"],
        default="bkg_3d",
        help="format of the background (default: bkg_3d)",
    )
    command.add_argument(
        "--size",
        choices=["full", "small"],
        default="full",
        help="binning of the responses (default: full)",
    )
    command.add_argument("--overwrite", action="store_true", help="replace an archive")


def run(arguments: argparse.Namespace) -> int:
    """Write the archive."""
    from obscluster.simulate import simulate

    simulate(
        arguments.directory,
        n_obs=arguments.n_obs,
        seed=arguments.seed,
        n_epochs=arguments.n_epochs,
        psf=arguments.psf,
        bkg=arguments.bkg,
        size=arguments.size,
        overwrite=arguments.overwrite,
        progress=lambda rows: progress_bar(rows, arguments.n_obs, "simulated runs"),
    )
    say(f"{arguments.n_obs} runs in {arguments.directory}; the column EPOCH holds the truth")
    return 0
