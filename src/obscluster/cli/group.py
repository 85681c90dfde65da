"""``obscluster group``: put runs into groups."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obscluster.cli.common import add_command, progress_bar
from obscluster.exceptions import ObsClusterError

if TYPE_CHECKING:
    from obscluster.pipeline import GroupResult

EXAMPLES = """\
examples:
  cluster the runs around a position by energy resolution and PSF at 1 TeV, into two groups:
    obscluster group $GAMMAPY_DATA/hess-dl3-dr1 --target "329.71693826 -30.2255890" \\
        --radius "2 deg" --energy "1 TeV" --features edisp-res psf-radius --n-groups 2 \\
        --output results/
  split the runs of a target that the archive knows at the median zenith angle:
    obscluster group $GAMMAPY_DATA/hess-dl3-dr1 --target "PKS 2155-304" \\
        --by ZEN_PNT --cut median --output results/
  zenith angle in bins:
    obscluster group $GAMMAPY_DATA/hess-dl3-dr1 --by ZEN_PNT --edges "0 deg" "30 deg" "60 deg" \\
        --output results/
"""


def add(commands: Any) -> None:
    """Describe the arguments."""
    command = add_command(commands, "group", "put runs into groups", EXAMPLES, run)
    command.add_argument("archive", help="directory with obs-index and hdu-index files")
    command.add_argument("-o", "--output", required=True, type=Path, help="directory for results")
    command.add_argument("--overwrite", action="store_true", help="replace results in the output")
    command.add_argument("--no-plots", action="store_true", help="draw no plots")
    command.add_argument(
        "--workers", type=int, default=1, metavar="N", help="runs read at once (default: 1)"
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
        nargs=3,
        action="append",
        metavar=("COLUMN", "LOW", "HIGH"),
        default=[],
        help='keep a range of a column, such as: --where ZEN_PNT "0 deg" "40 deg"; repeatable',
    )
    what = command.add_argument_group("what characterises a run (`obscluster features` lists all)")
    what.add_argument(
        "--features",
        nargs="+",
        metavar="NAME",
        help="features, also with an energy (psf-r68@10TeV), and columns of the obs-index such as "
        "ZEN_PNT (default: edisp-res psf-radius)",
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
    cluster = command.add_argument_group("groups by hierarchical clustering (default)")
    cluster.add_argument("--n-groups", type=int, metavar="N", help="number of groups (default: 2)")
    cluster.add_argument(
        "--linkage", metavar="METHOD", help="SciPy's linkage method (default: ward)"
    )
    cluster.add_argument("--metric", help="SciPy's distance metric (default: euclidean)")
    cuts = command.add_argument_group("or groups by one quantity")
    cuts.add_argument(
        "--by", metavar="NAME", help="a feature, or a column of the obs-index such as ZEN_PNT"
    )
    cuts.add_argument(
        "--cut", nargs="+", metavar="VALUE", help='"median" (default), "mean", or values with unit'
    )
    cuts.add_argument("--edges", nargs="+", metavar="VALUE", help="bin edges, with unit")
    cuts.add_argument("--quantiles", type=int, metavar="N", help="N groups of equal size")


def run(arguments: argparse.Namespace) -> int:
    """Group, write, and tell."""
    from obscluster.config import make_config
    from obscluster.pipeline import group_observations, write_results
    from obscluster.results import check_output

    config = make_config(_config_content(arguments))
    # Before the work, not after it.
    check_output(arguments.output, arguments.overwrite)
    result = group_observations(config, progress_bar)
    files = write_results(result, arguments.output, arguments.overwrite, not arguments.no_plots)
    _print_result(result)
    print(f"\nresults in {arguments.output}: {', '.join(files)}")
    return 0


def _config_content(arguments: argparse.Namespace) -> dict[str, Any]:
    """Description of the run; what was not asked for is left to its defaults."""
    features = {
        "energy": arguments.energy,
        "offset": arguments.offset,
        "containment_fraction": arguments.containment,
        "files": arguments.feature_file,
    }
    clustered = {"names": arguments.features, "missing": arguments.missing}
    cuts = {"cut": arguments.cut, "edges": arguments.edges, "quantiles": arguments.quantiles}
    clustering = {
        "n_groups": arguments.n_groups,
        "linkage": arguments.linkage,
        "metric": arguments.metric,
    }
    grouping: dict[str, Any] = {"method": "cuts", "by": arguments.by} | _given(cuts)
    if arguments.by is None:
        if _given(cuts):
            raise _usage(_given(cuts), "needs --by NAME, the quantity to split")
        grouping = {"method": "hierarchical"} | _given(clustering)
    elif _given(clustered | clustering):
        text = "belongs to clustering, which --by replaces; leave one of them out"
        raise _usage(_given(clustered | clustering), text)
    where = [
        {"type": "par_box", "variable": column, "value_range": [low, high]}
        for column, low, high in arguments.where
    ]
    return {
        "archive": arguments.archive,
        "target": arguments.target,
        "frame": arguments.frame,
        "radius": arguments.radius,
        "selection": where,
        "grouping": grouping,
        "features": _given(features | clustered),
        "workers": arguments.workers,
    }


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _usage(options: dict[str, Any], text: str) -> ObsClusterError:
    from obscluster.exceptions import RequestError

    names = {"names": "features", "containment_fraction": "containment", "n_groups": "n-groups"}
    first = next(iter(options))
    return RequestError(f"--{names.get(first, first)} {text}")


def _print_result(result: GroupResult) -> None:
    from obscluster.summary import describe_result

    print(describe_result(result))
    for obs_id, reason in list(result.unassigned.items())[:10]:
        print(f"run {obs_id} is in no group: {reason}", file=sys.stderr)
    more = len(result.unassigned) - 10
    if more > 0:
        print(f"... and {more} more, see unassigned in groups.yaml", file=sys.stderr)
