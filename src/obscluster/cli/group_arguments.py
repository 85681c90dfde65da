"""The arguments of ``obscluster group`` that say how."""

from __future__ import annotations

import argparse

__all__ = ["METHODS", "OPTIONS", "WAYS", "add_constraints", "add_methods", "add_scaling"]

METHODS: dict[str, tuple[str, ...]] = {
    "hierarchical": ("n_groups", "linkage", "metric", "criterion", "threshold"),
    "cuts": (),
    "kmeans": ("n_groups", "random_state"),
    "mixture": ("n_groups", "covariance_type", "random_state"),
    "hdbscan": ("cluster_runs", "neighbours", "epsilon"),
    "spread": (),
    "information": ("n_groups", "max_loss"),
    "labels": ("file",),
}
"""Methods and their options."""
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
        choices=METHODS,
        metavar="METHOD",
        help=f"one of {', '.join(METHODS)} (default: hierarchical; cuts with --by; information "
        "with --max-loss; spread with --max-spread alone; labels with --labels)",
    )
    method.add_argument(
        "--n-groups",
        type=_number_or_auto,
        metavar="N",
        help='number of groups, or "auto" (default: 2)',
    )
    method.add_argument(
        "--linkage", metavar="METHOD", help="hierarchical: SciPy's linkage method (default: ward)"
    )
    method.add_argument(
        "--metric", help="hierarchical: SciPy's distance metric (default: euclidean)"
    )
    method.add_argument(
        "--criterion",
        choices=["distance", "inconsistent"],
        help="hierarchical: cut the tree by this criterion at --threshold",
    )
    method.add_argument(
        "--max-loss",
        metavar="LOSS",
        help="information: the fewest groups that lose no more, such as 1%%",
    )
    method.add_argument("--threshold", type=float, metavar="T", help="see --criterion")
    method.add_argument(
        "--covariance",
        choices=["full", "tied", "diag", "spherical"],
        help="mixture: shape of the components (default: full)",
    )
    method.add_argument(
        "--cluster-runs", type=int, metavar="N", help="hdbscan: smallest group (default: 5)"
    )
    method.add_argument(
        "--neighbours",
        type=int,
        metavar="N",
        help="hdbscan: runs that make a place dense (default: those of the smallest group)",
    )
    method.add_argument(
        "--epsilon", type=float, metavar="D", help="hdbscan: closer groups are not split"
    )
    method.add_argument(
        "--random-state", type=int, metavar="N", help="kmeans, mixture: seed (default: 0)"
    )
    method.add_argument(
        "--labels",
        metavar="FILE",
        help="labels: groups made by hand, CSV with the columns OBS_ID and label, such as the "
        "explorer of a report downloads",
    )
    cuts = command.add_argument_group("groups by one quantity, or by several")
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
