"""The arguments that say which runs, and what characterises them."""

from __future__ import annotations

import argparse
from typing import Any

from obscluster.cli.common import archive_config
from obscluster.exceptions import RequestError

__all__ = ["add_runs", "given", "runs_config"]


def add_runs(command: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    command.add_argument(
        "--workers", type=int, default=1, metavar="N", help="runs read at once (default: 1)"
    )
    command.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="read the runs on a dask.distributed cluster, such as tcp://host:8786",
    )
    command.add_argument(
        "--cache", metavar="DIR", help="keep features there, and compute only what is new"
    )
    select = command.add_argument_group("which runs (default: all)")
    select.add_argument(
        "--target", help='"RA DEC" in degrees, or a name in the OBJECT column of the archive'
    )
    select.add_argument(
        "--frame", choices=["icrs", "galactic"], default="icrs", help="frame of the coordinates"
    )
    select.add_argument(
        "--radius", default="2 deg", help='cone around the target (default: "2 deg")'
    )
    select.add_argument(
        "--where",
        nargs="+",
        action="append",
        metavar="WHAT",
        default=[],
        help="keep a range of a quantity or column, NAME LOW HIGH, or some values, NAME = A B; "
        'with "not" before it, the others: --where ZEN_PNT "0 deg" "40 deg" '
        "--where not TELLIST = 1,2,3; repeatable",
    )
    what = command.add_argument_group("what characterises a run (`obscluster features` lists all)")
    what.add_argument(
        "--features",
        nargs="+",
        metavar="NAME",
        help="features, also with an energy (psf-r68@10TeV), and columns of the obs-index such as "
        "ZEN_PNT (default: the first two of edisp-res psf-radius aeff rad-max zenith that all runs "
        "have)",
    )
    what.add_argument(
        "--energy",
        nargs="+",
        metavar="E",
        help='energies, with unit, of features that carry none (default: "1 TeV")',
    )
    what.add_argument(
        "--offset", help="fixed offset from the pointing (default: that of the target, or 0 deg)"
    )
    what.add_argument(
        "--containment", type=float, metavar="F", help="fraction for psf-radius (default: 0.68)"
    )
    what.add_argument(
        "--feature-file",
        nargs="+",
        metavar="FILE",
        help="Python files that define more features, see obscluster.features.base",
    )
    what.add_argument(
        "--missing",
        choices=["unassigned", "drop-feature"],
        help="where a run lacks a feature, leave that run out of the groups (default) or the "
        "feature out of the clustering",
    )


def runs_config(arguments: argparse.Namespace) -> dict[str, Any]:
    """Those parts of the configuration; what was not asked for is left to its defaults."""
    features = {
        "names": arguments.features,
        "missing": arguments.missing,
        "energy": arguments.energy,
        "offset": arguments.offset,
        "containment_fraction": arguments.containment,
        "files": arguments.feature_file,
        "cache": arguments.cache,
    }
    return {
        "archive": archive_config(arguments),
        "target": arguments.target,
        "frame": arguments.frame,
        "radius": arguments.radius,
        "selection": [_step(words) for words in arguments.where],
        "features": given(features),
        "workers": arguments.workers,
        "scheduler": arguments.scheduler,
    }


def _step(words: list[str]) -> dict[str, Any]:
    """Step of a selection from NAME LOW HIGH, or NAME = A B, maybe with "not" before."""
    inverted, rest = words[:1] == ["not"], words[words[:1] == ["not"] :]
    step: dict[str, Any] = {"inverted": True} if inverted else {}
    if len(rest) > 2 and rest[1] == "=":
        return {"type": "par_values", "variable": rest[0], "values": rest[2:], **step}
    if len(rest) == 3:
        return {"type": "par_box", "variable": rest[0], "value_range": rest[1:], **step}
    raise RequestError(
        f"--where {' '.join(words)}: expected NAME LOW HIGH, or NAME = VALUE ..., such as "
        '--where ZEN_PNT "0 deg" "40 deg" or --where N_TELS = 3 4'
    )


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Options that were asked for."""
    return {name: value for name, value in options.items() if value is not None}
