"""``obscluster run``: what a file describes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from obscluster.cli.common import add_command, progress_bar

EXAMPLES = """\
examples:
  group as described in a file:
    obscluster run groups-of-pks2155.yaml --output results/
  repeat what made earlier results:
    obscluster run results/groups.yaml --output again/

a description:
    archive: $GAMMAPY_DATA/hess-dl3-dr1
    target: PKS 2155-304
    features: {names: [psf-r68, edisp-res68, aeff], energy: [1 TeV]}
    scaling: {method: tolerance, tolerances: {psf-r68: 10%, edisp-res68: 0.02, aeff: 20%}}
    grouping: {method: hierarchical, n_groups: 3}
    constraints: {min_livetime: 2 h}
With a key `reduce`, the groups are reduced to Gammapy's datasets and fitted jointly; see
`obscluster reduce --help`.
"""


def add(commands: Any) -> None:
    """Describe the arguments."""
    command = add_command(
        commands,
        "run",
        "do what a YAML file describes: group, and reduce and fit if asked",
        EXAMPLES,
        run,
    )
    command.add_argument("config", type=Path, help="YAML description, or groups.yaml of results")
    command.add_argument("-o", "--output", required=True, type=Path, help="directory for results")
    command.add_argument("--overwrite", action="store_true", help="replace results in the output")
    command.add_argument("--no-plots", action="store_true", help="draw no plots")


def run(arguments: argparse.Namespace) -> int:
    """Group, write, and tell."""
    from obscluster.cli.group import print_result
    from obscluster.config import read_config
    from obscluster.pipeline import group_observations, write_results
    from obscluster.results import check_output

    config = read_config(arguments.config)
    check_output(arguments.output, arguments.overwrite)
    settings = None
    if config.reduce is not None:
        from obscluster.reduction import make_reduce_config, require_gammapy

        # Before the work, not after it.
        require_gammapy()
        settings = make_reduce_config(config.reduce)
    result = group_observations(config, progress_bar)
    files = write_results(result, arguments.output, arguments.overwrite, not arguments.no_plots)
    print_result(result)
    print(f"\nresults in {arguments.output}: {', '.join(files)}")
    if settings is not None:
        from obscluster.reduction import fit_reduction, reduce_groups, write_fit

        datasets, fitted = arguments.output / "datasets", arguments.output / "fit"
        reduce_groups(
            arguments.output,
            settings,
            datasets,
            progress=progress_bar,
            overwrite=arguments.overwrite,
        )
        # Groups that were kept are not reduced again, but their fit may have been asked anew.
        reduction, fit = fit_reduction(datasets, settings.fit)
        write_fit(fit, reduction, fitted, arguments.overwrite, not arguments.no_plots)
        print(f"\n{fit}\n\ndatasets in {datasets}, fit in {fitted}")
    return 0
