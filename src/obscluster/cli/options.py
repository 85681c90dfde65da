"""The arguments that say which runs, and what characterises them.

The arguments that say what source is measured, for information losses.

The arguments of ``obscluster group`` that say how.
"""

from __future__ import annotations

import argparse
from typing import Any

from obscluster.cli.terminal import archive_config
from obscluster.exceptions import RequestError

__all__ = [
    "OPTIONS",
    "SOURCE",
    "WAYS",
    "add_constraints",
    "add_methods",
    "add_runs",
    "add_scaling",
    "add_source",
    "given",
    "runs_config",
    "source_config",
]


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


# Option to the part of the configuration and its key there.
SOURCE = {
    "flux": ("source", "amplitude"),
    "index": ("source", "index"),
    "reference": ("source", "reference"),
    "model": ("source", "model"),
    "cutoff": ("source", "cutoff"),
    "curvature": ("source", "curvature"),
    "size": ("source", "size"),
    "parameters": ("source", "parameters"),
    "energy_range": ("counts", "energy"),
    "bins_per_decade": ("counts", "bins_per_decade"),
    "safe_energy": ("counts", "safe_energy"),
    "aeff_fraction": ("counts", "aeff_fraction"),
    "background": ("counts", "background"),
    "fit_background": ("counts", "fit_background"),
}


def add_source(command: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    source = command.add_argument_group("the source that is measured, for the information loss")
    source.add_argument(
        "--flux", help='at the reference energy: "0.6 %% Crab" or "2e-13 cm-2 s-1 TeV-1" '
        '(default: "1 %% Crab")'
    )  # fmt: skip
    source.add_argument("--index", type=float, metavar="N", help="spectral index (default: 2.7)")
    source.add_argument("--reference", metavar="E", help='reference energy (default: "1 TeV")')
    source.add_argument(
        "--model",
        choices=["power-law", "cutoff-power-law", "log-parabola"],
        help="spectrum (default: power-law)",
    )
    source.add_argument("--cutoff", metavar="E", help="energy of the cut-off")
    source.add_argument("--curvature", type=float, metavar="N", help="of a log parabola")
    source.add_argument("--size", help='sigma of a Gaussian source (default: "0 deg", a point)')
    source.add_argument(
        "--parameters",
        nargs="+",
        metavar="NAME",
        help="what is measured: amplitude, index, lambda_, curvature, size (default: amplitude "
        "index)",
    )
    source.add_argument(
        "--energy-range",
        nargs=2,
        metavar=("LOW", "HIGH"),
        help='reconstructed energies (default: "0.1 TeV" "100 TeV")',
    )
    source.add_argument(
        "--bins-per-decade", type=int, metavar="N", help="bins in energy (default: 8)"
    )
    source.add_argument(
        "--safe-energy",
        choices=["aeff-max", "index", "none"],
        help="lowest energy of a run: by its effective area (default), from the obs-index, or none",
    )
    source.add_argument(
        "--aeff-fraction", type=float, metavar="F", help="of its maximum (default: 0.1)"
    )
    source.add_argument(
        "--background",
        help='"irf", "events" (of the run itself), "auto" (the first that there is, default), or a '
        'rate such as "100 s-1 sr-1", in all energies (falling as E^-2.7) or per bin, separated '
        "by commas",
    )
    source.add_argument(
        "--fit-background",
        action="store_true",
        default=None,
        help="the normalisation of the background of each group is fitted",
    )


def source_config(arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The parts of the configuration that were asked for."""
    config: dict[str, dict[str, Any]] = {}
    for option, (part, key) in SOURCE.items():
        value = getattr(arguments, option)
        if value is not None:
            config.setdefault(part, {})[key] = value
    return config


WAYS = ("cut", "edges", "quantiles", "width", "livetime", "adaptive", "categories")
OPTIONS = {
    "names": "features",
    "containment_fraction": "containment",
    "n_groups": "n-groups",
    "covariance_type": "covariance",
    "cluster_runs": "cluster-runs",
    "random_state": "random-state",
    "max_spread": "max-spread",
    "max_loss": "max-loss",
    "file": "labels",
}
"""Keys of the configuration that the command line calls otherwise."""


def add_methods(command: argparse.ArgumentParser) -> None:
    method = command.add_argument_group("how runs are grouped")
    method.add_argument(
        "--method",
        metavar="METHOD",
        help="such as hierarchical, kmeans, mixture, hdbscan, spread, information, cuts, labels "
        "(default: hierarchical; cuts with --by; information with --max-loss; spread with "
        "--max-spread alone; labels with --labels)",
    )
    method.add_argument(
        "--n-groups",
        type=_number_or_auto,
        metavar="N",
        help='number of groups, or "auto" (default: 2)',
    )
    tree = command.add_argument_group("method hierarchical")
    tree.add_argument("--linkage", metavar="METHOD", help="SciPy's linkage method (default: ward)")
    tree.add_argument("--metric", help="SciPy's distance metric (default: euclidean)")
    tree.add_argument(
        "--criterion",
        choices=["distance", "inconsistent"],
        help="cut the tree by this criterion at --threshold",
    )
    tree.add_argument("--threshold", type=float, metavar="T", help="see --criterion")
    parts = command.add_argument_group("methods kmeans and mixture")
    parts.add_argument("--random-state", type=int, metavar="N", help="seed (default: 0)")
    parts.add_argument(
        "--covariance",
        choices=["full", "tied", "diag", "spherical"],
        help="mixture: shape of the components (default: full)",
    )
    density = command.add_argument_group("method hdbscan")
    density.add_argument(
        "--cluster-runs", type=int, metavar="N", help="smallest group (default: 5)"
    )
    density.add_argument(
        "--neighbours",
        type=int,
        metavar="N",
        help="runs that make a place dense (default: those of the smallest group)",
    )
    density.add_argument("--epsilon", type=float, metavar="D", help="closer groups are not split")
    others = command.add_argument_group("methods information and labels")
    others.add_argument(
        "--max-loss",
        metavar="LOSS",
        help="information: the fewest groups that lose no more, such as 1%%",
    )
    others.add_argument(
        "--labels",
        metavar="FILE",
        help="labels: groups made by hand, CSV with the columns OBS_ID and label, such as the "
        "explorer of a report downloads",
    )
    cuts = command.add_argument_group("method cuts: groups by one quantity, or by several")
    cuts.add_argument(
        "--by",
        nargs="+",
        metavar="NAME",
        help="feature, or column of the obs-index such as ZEN_PNT; of several, each with its own "
        "way: ZEN_PNT=quantiles:3 MUONEFF=cut:0.9 TELLIST=categories",
    )
    cuts.add_argument(
        "--cut", nargs="+", metavar="VALUE", help='"median" (default), "mean", or values with unit'
    )
    cuts.add_argument("--edges", nargs="+", metavar="VALUE", help="bin edges, with unit")
    cuts.add_argument("--quantiles", type=int, metavar="N", help="N groups of equal size")
    cuts.add_argument("--width", type=int, metavar="N", help="N bins of equal width")
    cuts.add_argument("--livetime", type=int, metavar="N", help="N groups of equal livetime")
    cuts.add_argument(
        "--adaptive",
        action="store_true",
        default=None,
        help="bins that grow until they hold --min-livetime or --min-runs",
    )
    cuts.add_argument(
        "--categories", action="store_true", default=None, help="a group per value of the column"
    )


def add_scaling(command: argparse.ArgumentParser) -> None:
    scaling = command.add_argument_group("how much a difference counts")
    scaling.add_argument(
        "--scaling",
        choices=["standard", "robust", "tolerance", "none"],
        help="standard deviation (default), median absolute deviation, --tolerance, or as it is",
    )
    scaling.add_argument(
        "--tolerance",
        nargs="+",
        metavar="NAME=AMOUNT",
        help="what difference of each feature counts as 1: psf-r68=10%% zenith=5deg",
    )
    scaling.add_argument(
        "--weight", nargs="+", metavar="NAME=FACTOR", help="factors for differences: psf-r68=2"
    )
    scaling.add_argument(
        "--log", nargs="+", metavar="NAME", help="features of which the logarithm is taken"
    )


def add_constraints(command: argparse.ArgumentParser) -> None:
    limits = command.add_argument_group("what groups must keep to, with any method")
    limits.add_argument(
        "--within",
        nargs="+",
        metavar="COLUMN",
        help="never mix values of these columns; each value is grouped by itself",
    )
    limits.add_argument("--min-livetime", metavar="TIME", help='livetime per group, "5 h"')
    limits.add_argument("--min-runs", type=int, metavar="N", help="runs per group")
    limits.add_argument(
        "--per-pointing",
        action="store_true",
        help="the minimum holds for each pointing (wobble) position of a group",
    )
    limits.add_argument(
        "--short",
        choices=["merge", "unassign"],
        help="groups that hold less are merged into the nearest (default), or given up",
    )
    limits.add_argument(
        "--max-spread",
        nargs="+",
        metavar="NAME=AMOUNT",
        help="the fewest groups in which features vary by no more: psf-r68=15%% edisp-res68=0.02",
    )
    limits.add_argument(
        "--contiguous", action="store_true", help="groups are contiguous in time, for epochs"
    )


def _number_or_auto(text: str) -> int | str:
    return text if text == "auto" else int(text)
