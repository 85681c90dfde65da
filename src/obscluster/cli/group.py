"""``obscluster group``: put runs into groups."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obscluster.cli.common import (
    STRICT,
    add_archive,
    add_command,
    add_strict,
    progress_bar,
    writing,
)
from obscluster.cli.group_arguments import (
    METHODS,
    OPTIONS,
    WAYS,
    add_constraints,
    add_methods,
    add_scaling,
)
from obscluster.cli.run_arguments import add_runs, given, runs_config
from obscluster.cli.source_arguments import add_source, source_config
from obscluster.cli.terminal import say
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
  bins of cos zenith with 5 h each, per number of telescopes, for background models:
    obscluster group $GAMMAPY_DATA/hess-dl3-dr1 --by cos-zenith --adaptive --min-livetime "5 h" \\
        --within N_TELS --output results/
  the fewest groups that lose at most 1 % of the information on a source of 0.6 % of the Crab:
    obscluster group $GAMMAPY_DATA/hess-dl3-dr1 --target "PKS 2155-304" --max-loss 1% \\
        --flux "0.6 % Crab" --output results/
  the fewest groups in which the PSF varies by no more than 15 %:
    obscluster group $GAMMAPY_DATA/hess-dl3-dr1 --max-spread psf-r68=15% --output results/
  the groups that were made by hand in the explorer of a report:
    obscluster group $GAMMAPY_DATA/hess-dl3-dr1 --labels labels.csv --output by-hand/
"""


def add(commands: Any) -> None:
    """Describe the arguments."""
    command = add_command(commands, "group", "put runs into groups", EXAMPLES, run)
    add_archive(command)
    command.add_argument("-o", "--output", required=True, type=Path, help="directory for results")
    command.add_argument("--overwrite", action="store_true", help="replace results in the output")
    command.add_argument("--no-plots", action="store_true", help="draw no plots")
    add_strict(command)
    add_runs(command)
    add_methods(command)
    add_scaling(command)
    add_constraints(command)
    add_source(command)


def run(arguments: argparse.Namespace) -> int:
    """Group, write, and tell."""
    from obscluster.config import make_config
    from obscluster.pipeline import group_observations, write_results

    config = make_config(_config_content(arguments))
    output, overwrite = arguments.output, arguments.overwrite
    # Before the work, not after it.
    with writing(output, overwrite, arguments.archive):
        result = group_observations(config, progress_bar)
        files = write_results(result, output, overwrite, not arguments.no_plots)
    print_result(result)
    say("", f"results in {arguments.output}: {', '.join(files)}")
    return STRICT if arguments.strict and result.unread else 0


def _config_content(arguments: argparse.Namespace) -> dict[str, Any]:
    """Description of the run; what was not asked for is left to its defaults."""
    clustered = {"names": arguments.features, "missing": arguments.missing}
    grouping = _grouping(arguments)
    if grouping["method"] == "cuts" and given(clustered):
        text = "belongs to clustering, which --by replaces; leave one of them out"
        raise _usage(given(clustered), text)
    return {
        **runs_config(arguments),
        "grouping": grouping,
        "scaling": _scaling(arguments),
        "constraints": _constraints(arguments),
        **source_config(arguments),
    }


def _grouping(arguments: argparse.Namespace) -> dict[str, Any]:
    """Method and its options; those of other methods are an error."""
    ways = given({name: getattr(arguments, name) for name in WAYS})
    options = {
        "n_groups": arguments.n_groups,
        "linkage": arguments.linkage,
        "metric": arguments.metric,
        "criterion": arguments.criterion,
        "threshold": arguments.threshold,
        "max_loss": arguments.max_loss,
        "covariance_type": arguments.covariance,
        "cluster_runs": arguments.cluster_runs,
        "neighbours": arguments.neighbours,
        "epsilon": arguments.epsilon,
        "random_state": arguments.random_state,
        "file": arguments.labels,
    }
    method = arguments.method or _default_method(arguments, given(options))
    if arguments.by is None and ways:
        raise _usage(ways, "needs --by NAME, the quantity to split")
    if method != "cuts" and arguments.by is not None:
        raise _usage({"by": arguments.by}, f"belongs to --method cuts, not to {method}")
    allowed = METHODS[method]
    wrong = {name: value for name, value in given(options).items() if name not in allowed}
    if wrong and arguments.by is not None:
        raise _usage(wrong, "belongs to clustering, which --by replaces; leave one of them out")
    if wrong:
        names = ", ".join(f"--{OPTIONS.get(n, n)}" for n in allowed) or "none"
        raise _usage(wrong, f"is no option of --method {method}, which has {names}")
    if method == "labels" and arguments.labels is None:
        raise _usage({"method": method}, "labels needs --labels FILE, which says who is where")
    grouping: dict[str, Any] = {"method": method} | given(options)
    if method == "cuts":
        if arguments.by is None:
            raise _usage({"method": method}, "cuts needs --by NAME, the quantity to split")
        grouping["by"] = [_cut(text) for text in arguments.by]
        if ways and len(grouping["by"]) > 1:
            text = "is for one quantity; of several, write --by NAME=WAY:VALUES ..."
            raise _usage(ways, text)
        if ways:
            grouping["by"][0] |= ways
    return grouping


def _default_method(arguments: argparse.Namespace, options: dict[str, Any]) -> str:
    """What the options are about."""
    if arguments.by is not None:
        return "cuts"
    if arguments.labels is not None:
        return "labels"
    if arguments.max_loss is not None:
        return "information"
    if arguments.max_spread and not options and arguments.features is None:
        return "spread"
    return "hierarchical"


def _cut(text: str) -> dict[str, Any]:
    """A quantity and its way, from NAME, NAME=categories or NAME=edges:0,30,60."""
    name, given, rest = text.partition("=")
    if not given:
        return {"column": name}
    way, _, values = rest.partition(":")
    if way not in WAYS:
        raise _usage({"by": text}, f"{text}: unknown way {way!r}; one of {', '.join(WAYS)}")
    if way in ("adaptive", "categories"):
        return {"column": name, way: True}
    items = [item.strip() for item in values.split(",") if item.strip()]
    return {"column": name, way: items if way in ("cut", "edges") else values}


def _scaling(arguments: argparse.Namespace) -> dict[str, Any]:
    method = arguments.scaling or ("tolerance" if arguments.tolerance else None)
    return given(
        {
            "method": method,
            "tolerances": _pairs("tolerance", arguments.tolerance),
            "weights": _pairs("weight", arguments.weight),
            "log": arguments.log,
        }
    )


def _constraints(arguments: argparse.Namespace) -> dict[str, Any]:
    return given(
        {
            "within": arguments.within,
            "min_livetime": arguments.min_livetime,
            "min_runs": arguments.min_runs,
            "per_pointing": arguments.per_pointing,
            "short": arguments.short,
            "max_spread": _pairs("max_spread", arguments.max_spread),
            "contiguous": arguments.contiguous,
        }
    )


def _pairs(option: str, given: list[str] | None) -> dict[str, str] | None:
    """Names and values from NAME=VALUE ..."""
    if given is None:
        return None
    pairs = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not (name and separator and value):
            raise _usage({option: text}, f"{text}: expected NAME=VALUE, such as psf-r68=10%")
        pairs[name] = value
    return pairs


def _usage(options: dict[str, Any], text: str) -> ObsClusterError:
    from obscluster.exceptions import RequestError

    first = next(iter(options))
    return RequestError(f"--{OPTIONS.get(first, first)} {text}")


def print_result(result: GroupResult) -> None:
    from obscluster.summary import describe_result, describe_unassigned

    print(describe_result(result))
    for line in describe_unassigned(result):
        say(line, error=True)
