"""``obscluster frontier``: what stacking costs, against the number of groups."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from obscluster.cli.common import add_archive, add_command, progress_bar, writing
from obscluster.cli.run_arguments import add_runs, runs_config
from obscluster.cli.source_arguments import add_source, source_config
from obscluster.cli.terminal import say

EXAMPLES = """\
examples:
  how many groups do the runs of a target need, for a source of 0.6 % of the Crab?
    obscluster frontier $GAMMAPY_DATA/hess-dl3-dr1 --target "PKS 2155-304" --flux "0.6 % Crab"
  the same as a table and a plot, with the tree on other features beside it:
    obscluster frontier $GAMMAPY_DATA/hess-dl3-dr1 --target "PKS 2155-304" --flux "0.6 % Crab" \\
        --features psf-r68 edisp-res68 aeff --output frontier/

A loss of 10 % of the information is 10 % of the exposure thrown away.
"""


def add(commands: Any) -> None:
    """Describe the arguments."""
    command = add_command(
        commands, "frontier", "tell what stacking costs for each number of groups", EXAMPLES, run
    )
    add_archive(command)
    command.add_argument("-o", "--output", type=Path, help="directory for table and plot")
    command.add_argument("--overwrite", action="store_true", help="replace results in the output")
    command.add_argument(
        "--max-groups", type=int, metavar="N", help="largest number of groups (default: 20)"
    )
    add_runs(command)
    add_source(command)


def run(arguments: argparse.Namespace) -> int:
    """Compute, write, and tell."""
    from obscluster.characterise import characterise, select_runs, with_features
    from obscluster.config import make_config
    from obscluster.exceptions import RequestError
    from obscluster.pipeline import drop_incomplete
    from obscluster.stacking import frontier, scores_of, write_frontier
    from obscluster.summary import describe_frontier, note_lines

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
