"""``obscluster run``: what a file describes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from obscluster.cli.common import STRICT, add_command, add_strict, progress_bar
from obscluster.cli.terminal import say

EXAMPLES = """\
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


def add(commands: Any) -> None:
    """Describe the arguments."""
    command = add_command(
        commands,
        "run",
        "do all that a YAML file describes, or what is left of it",
        EXAMPLES,
        run,
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


def run(arguments: argparse.Namespace) -> int:
    """Do the steps, and tell."""
    from obscluster.cli.group import print_result
    from obscluster.run import read_plan, run_plan

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
