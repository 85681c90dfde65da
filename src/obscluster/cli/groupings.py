"""``obscluster group``: put runs into groups.

``obscluster assess``: what a grouping is worth.

``obscluster report``: a grouping on one page, for someone who was not there.

``obscluster frontier``: what stacking costs, against the number of groups.

``obscluster compare``: two groupings of the same runs.

``obscluster assign``: put new runs into existing groups.

``obscluster run``: what a file describes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obscluster.cli.options import (
    OPTIONS,
    WAYS,
    add_constraints,
    add_methods,
    add_runs,
    add_scaling,
    add_source,
    given,
    runs_config,
    source_config,
)
from obscluster.cli.terminal import (
    STRICT,
    add_archive,
    add_command,
    add_strict,
    add_trust,
    archive_config,
    progress_bar,
    say,
    writing,
)
from obscluster.exceptions import ObsClusterError, RequestError, unknown_name

if TYPE_CHECKING:
    from obscluster.workflow.group import GroupResult

_GROUP_EXAMPLES = """\
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


def add_group(commands: Any) -> None:
    """Describe the arguments."""
    command = add_command(commands, "group", "put runs into groups", _GROUP_EXAMPLES, run_group)
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


def run_group(arguments: argparse.Namespace) -> int:
    """Group, write, and tell."""
    from obscluster.config import make_config
    from obscluster.workflow.group import group_observations, write_results

    # Description of the run; what was not asked for is left to its defaults.
    clustered = {"names": arguments.features, "missing": arguments.missing}
    grouping = _grouping(arguments)
    if grouping["method"] == "cuts" and given(clustered):
        text = "belongs to clustering, which --by replaces; leave one of them out"
        raise _usage(given(clustered), text)
    method = arguments.scaling or ("tolerance" if arguments.tolerance else None)
    config = make_config(
        {
            **runs_config(arguments),
            "grouping": grouping,
            "scaling": given(
                {
                    "method": method,
                    "tolerances": _pairs("tolerance", arguments.tolerance),
                    "weights": _pairs("weight", arguments.weight),
                    "log": arguments.log,
                }
            ),
            "constraints": _constraints(arguments),
            **source_config(arguments),
        }
    )
    output, overwrite = arguments.output, arguments.overwrite
    # Before the work, not after it.
    with writing(output, overwrite, arguments.archive):
        result = group_observations(config, progress_bar)
        files = write_results(result, output, overwrite, not arguments.no_plots)
    print_result(result)
    say("", f"results in {arguments.output}: {', '.join(files)}")
    return STRICT if arguments.strict and result.unread else 0


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
    # Who asks for help does not wait for it.
    from obscluster.config import METHODS

    if method not in METHODS:
        raise RequestError(f"--method: {unknown_name('method', method, METHODS)}")
    allowed = [name for name in options if name in METHODS[method].model_fields]
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
    first = next(iter(options))
    return RequestError(f"--{OPTIONS.get(first, first)} {text}")


def print_result(result: GroupResult) -> None:
    from obscluster.views.text import describe_result, describe_unassigned

    print(describe_result(result))
    for line in describe_unassigned(result):
        say(line, error=True)


_ASSESS_EXAMPLES = """\
examples:
  how much the runs of each group differ, how many groups there should be, and which runs are odd:
    obscluster assess results/
  and how much of the information on a source of 1 % of the Crab stacking loses:
    obscluster assess results/ --flux "1 % Crab"
  the same as tables and a plot:
    obscluster assess results/ --output assessment/
"""


def add_assess(commands: Any) -> None:
    """Describe the arguments."""
    command = add_command(
        commands, "assess", "tell what a grouping is worth", _ASSESS_EXAMPLES, run_assess
    )
    command.add_argument("groups", type=Path, help="groups.yaml, or the directory that has it")
    command.add_argument(
        "--max-groups", type=int, default=10, metavar="N", help="numbers to look at (default: 10)"
    )
    command.add_argument(
        "--resamples",
        type=int,
        default=50,
        metavar="N",
        help="trials for the stability, 0 for none (default: 50)",
    )
    command.add_argument("-o", "--output", type=Path, help="directory for tables and plot")
    command.add_argument("--overwrite", action="store_true", help="replace results in the output")
    add_archive(command, optional=True)
    command.add_argument(
        "--target", help="where the source is (default: the target of the grouping)"
    )
    add_source(command)
    add_trust(command)


def run_assess(arguments: argparse.Namespace) -> int:
    """Assess, tell, and write."""
    from obscluster.views.text import describe_assessment
    from obscluster.workflow.assess import assess_grouping, write_assessment

    files = []
    with writing(arguments.output, arguments.overwrite, arguments.archive):
        assessment = assess_grouping(
            arguments.groups,
            arguments.max_groups,
            arguments.resamples,
            progress_bar,
            source_config(arguments)
            | given({"archive": archive_config(arguments), "target": arguments.target}),
            trust=arguments.trust,
        )
        # Written first: whoever reads the text may stop halfway.
        if arguments.output is not None:
            files = write_assessment(assessment, arguments.output, arguments.overwrite)
    print(describe_assessment(assessment))
    if files:
        say("", f"results in {arguments.output}: {', '.join(files)}")
    return 0


_REPORT_EXAMPLES = """\
examples:
  one page of what was asked and what came out, with plots that can be played with:
    obscluster report results/
  elsewhere, with the archive in a new place:
    obscluster report results/ --output pks2155.html --archive /data/hess-dl3-dr1

The page is one file that opens in any browser, without network. Groups that are changed by hand in
it are downloaded as a file that `obscluster group ARCHIVE --labels FILE` takes. Needs the extra:
pip install "obscluster[report]".
"""


def add_report(commands: Any) -> None:
    """Describe the arguments."""
    command = add_command(
        commands,
        "report",
        "write a page that shows a grouping, with an explorer",
        _REPORT_EXAMPLES,
        run_report,
    )
    command.add_argument("groups", type=Path, help="groups.yaml, or the directory that has it")
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="the page (default: report.html with the results)",
    )
    command.add_argument(
        "--force", action="store_true", help="replace any file, not only a page that is as written"
    )
    add_archive(command, optional=True)
    add_trust(command)


def run_report(arguments: argparse.Namespace) -> int:
    """Write, and say where."""
    from obscluster.workflow.report import require_report, write_report

    # Before the work, not after it.
    require_report()
    path = write_report(
        arguments.groups,
        arguments.output,
        archive_config(arguments),
        progress=progress_bar,
        trust=arguments.trust,
        force=arguments.force,
    )
    say(f"report in {path}, {path.stat().st_size / 1e6:.1f} MB")
    return 0


_FRONTIER_EXAMPLES = """\
examples:
  how many groups do the runs of a target need, for a source of 0.6 % of the Crab?
    obscluster frontier $GAMMAPY_DATA/hess-dl3-dr1 --target "PKS 2155-304" --flux "0.6 % Crab"
  the same as a table and a plot, with the tree on other features beside it:
    obscluster frontier $GAMMAPY_DATA/hess-dl3-dr1 --target "PKS 2155-304" --flux "0.6 % Crab" \\
        --features psf-r68 edisp-res68 aeff --output frontier/

A loss of 10 % of the information is 10 % of the exposure thrown away.
"""


def add_frontier(commands: Any) -> None:
    """Describe the arguments."""
    command = add_command(
        commands,
        "frontier",
        "tell what stacking costs for each number of groups",
        _FRONTIER_EXAMPLES,
        run_frontier,
    )
    add_archive(command)
    command.add_argument("-o", "--output", type=Path, help="directory for table and plot")
    command.add_argument("--overwrite", action="store_true", help="replace results in the output")
    command.add_argument(
        "--max-groups", type=int, metavar="N", help="largest number of groups (default: 20)"
    )
    add_runs(command)
    add_source(command)


def run_frontier(arguments: argparse.Namespace) -> int:
    """Compute, write, and tell."""
    from obscluster.config import make_config
    from obscluster.views.text import describe_frontier, note_lines
    from obscluster.workflow.frontier import frontier, write_frontier
    from obscluster.workflow.group import drop_incomplete
    from obscluster.workflow.runs import characterise, scores_of, select_runs, with_features

    if arguments.target is None:
        raise RequestError("frontier needs --target, where the source is")
    if arguments.max_groups is not None and arguments.max_groups < 1:
        raise RequestError(f"--max-groups {arguments.max_groups}; expected at least 1")
    config = make_config(runs_config(arguments) | source_config(arguments))
    files = []
    with writing(arguments.output, arguments.overwrite, arguments.archive):
        selected = select_runs(config)
        config = with_features(config, selected.obs_table)
        runs = characterise(config, progress_bar, selected)
        if config.features.missing == "drop-feature":
            runs = drop_incomplete(runs)
        scores = scores_of(config, runs, progress_bar)
        table = frontier(config, runs, scores, arguments.max_groups)
        # Written first: whoever reads the text may stop halfway.
        if arguments.output is not None:
            archive = selected.data_store.base_dir
            files = write_frontier(table, arguments.output, arguments.overwrite, archive)
    print(describe_frontier(table))
    for line in note_lines(runs.features):
        say(line)
    if files:
        say("", f"results in {arguments.output}: {', '.join(files)}")
    return 0


_COMPARE_EXAMPLES = """\
example:
  are the groups by response those by zenith angle?
    obscluster compare by-response/ by-zenith/
"""


def add_compare(commands: Any) -> None:
    """Describe the arguments."""
    command = add_command(
        commands, "compare", "compare two groupings", _COMPARE_EXAMPLES, run_compare
    )
    for name in ("first", "second"):
        command.add_argument(name, type=Path, help="groups.yaml, or the directory that has it")
    add_trust(command)


def run_compare(arguments: argparse.Namespace) -> int:
    """Compare, and tell."""
    from obscluster.assessment import compare
    from obscluster.grouping.base import Grouping

    paths = (arguments.first, arguments.second)
    first, second = (Grouping.read(path, arguments.trust) for path in paths)
    print(compare(first, second))
    return 0


_ASSIGN_EXAMPLES = """\
examples:
  where do the runs of an archive belong that has grown since the groups were made?
    obscluster assign results/groups.yaml $GAMMAPY_DATA/hess-dl3-dr1
  write the groups with their new runs:
    obscluster assign results/groups.yaml $GAMMAPY_DATA/hess-dl3-dr1 --output results-2/

Runs that have a group keep it. New runs that are unlike all others fit none, and are listed.
"""


def add_assign(commands: Any) -> None:
    """Describe the arguments."""
    command = add_command(
        commands, "assign", "put new runs into existing groups", _ASSIGN_EXAMPLES, run_assign
    )
    command.add_argument("groups", type=Path, help="groups.yaml, or the directory that has it")
    add_archive(command)
    command.add_argument("-o", "--output", type=Path, help="directory for the extended groups")
    command.add_argument("--overwrite", action="store_true", help="replace results in the output")
    command.add_argument(
        "--workers", type=int, default=1, metavar="N", help="runs read at once (default: 1)"
    )
    add_trust(command)
    add_strict(command)


def run_assign(arguments: argparse.Namespace) -> int:
    """Assign, write, and tell."""
    from obscluster.views.text import describe_assignment
    from obscluster.workflow.assign import assign_observations, write_assignment

    files = []
    with writing(arguments.output, arguments.overwrite, arguments.archive):
        assignment = assign_observations(
            arguments.groups,
            archive_config(arguments) or "",
            arguments.workers,
            progress_bar,
            arguments.trust,
        )
        # Written first: whoever reads the text may stop halfway.
        if arguments.output is not None:
            files = write_assignment(assignment, arguments.output, arguments.overwrite)
    print(describe_assignment(assignment))
    if files:
        say("", f"results in {arguments.output}: {', '.join(files)}")
    return STRICT if arguments.strict and assignment.unread else 0


_RUN_EXAMPLES = """\
examples:
  an example description of an archive, and what it describes:
    obscluster init $GAMMAPY_DATA/hess-dl3-dr1 -o run.yaml
    obscluster run run.yaml --output results/
  the same with more groups; the features are not computed again:
    obscluster run run.yaml --output results/ --set grouping.n_groups=4
  repeat what made earlier results:
    obscluster run results/groups.yaml --output again/

a description:
    archive: $GAMMAPY_DATA/hess-dl3-dr1
    target: PKS 2155-304
    features: {names: [psf-r68, edisp-res68, aeff], energy: [1 TeV]}
    scaling: {method: tolerance, tolerances: {psf-r68: 10%, edisp-res68: 0.02, aeff: 20%}}
    grouping: {method: hierarchical, n_groups: 3}
    constraints: {min_livetime: 2 h}
    assess: {max_groups: 8, n_resamples: 100}
    report: {title: PKS 2155-304}
Keys at the top that begin with `x-` are left aside: a place for what anchors and merge keys use
(`x-base: &base {...}`, then `<<: *base`). A description has at most 1 MB, 20,000 keys and values,
and 50 levels.
The groups are assessed and a report is written unless these keys are false. With a key `reduce`,
the groups are reduced to Gammapy's datasets and fitted jointly; see `obscluster reduce --help`.

Each step is kept in the output until something that it depends on changes: the description, the
steps before, files of the archive, or versions. A step in which files of runs could not be read is
done again. A run that was interrupted goes on when it is started again.
"""


def add_run(commands: Any) -> None:
    """Describe the arguments."""
    command = add_command(
        commands,
        "run",
        "do all that a YAML file describes, or what is left of it",
        _RUN_EXAMPLES,
        run_run,
        interrupted="complete steps are kept, the same command goes on from them",
    )
    command.add_argument("config", type=Path, help="YAML description, or groups.yaml of results")
    command.add_argument("-o", "--output", required=True, type=Path, help="directory for results")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="put a value in place of that of the file, such as grouping.n_groups=3; repeatable",
    )
    command.add_argument(
        "--overwrite",
        "--restart",
        action="store_true",
        help="do all steps again, and replace what is in the output",
    )
    command.add_argument("--no-plots", action="store_true", help="draw no plots")
    add_strict(command)


def run_run(arguments: argparse.Namespace) -> int:
    """Do the steps, and tell."""
    from obscluster.workflow.run import read_plan, run_plan

    plan = read_plan(arguments.config, arguments.settings)
    outcome = run_plan(
        plan,
        arguments.output,
        arguments.overwrite,
        not arguments.no_plots,
        progress_bar,
        say,
    )
    say("")
    print_result(outcome.result)
    if outcome.fit is not None:
        print("", outcome.fit, sep="\n")
    say("", f"results in {arguments.output}")
    if arguments.strict and outcome.unread:
        return STRICT
    return 0 if outcome.fit is None or outcome.fit.fit.success else 1
