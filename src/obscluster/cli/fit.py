"""``obscluster fit``: the joint fit of reduced groups."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from obscluster.cli.common import add_command, add_trust, progress_bar, writing
from obscluster.cli.terminal import say

EXAMPLES = """\
examples:
  fit what `obscluster reduce` has written, as its description says:
    obscluster fit datasets/
  another spectrum, to somewhere else:
    obscluster fit datasets/ --model log-parabola -o log-parabola/
  the same fit with runs apart, in groups, and all stacked (needs reduce --keep-runs):
    obscluster fit datasets/ --compare
"""


def add(commands: Any) -> None:
    """Describe the arguments."""
    command = add_command(commands, "fit", "fit the reduced groups jointly", EXAMPLES, run)
    command.add_argument("datasets", type=Path, help="what `obscluster reduce` has written")
    command.add_argument(
        "-o", "--output", type=Path, help="directory for results (default: fit/ in the datasets)"
    )
    command.add_argument("--overwrite", action="store_true", help="replace results in the output")
    command.add_argument(
        "--config", type=Path, help="YAML description, of which the part fit counts"
    )
    command.add_argument("--model", choices=["power-law", "cutoff-power-law", "log-parabola"])
    command.add_argument("--spatial", choices=["point", "gaussian"], help="for maps")
    command.add_argument("--reference", metavar="E", help='reference energy (default: "1 TeV")')
    command.add_argument(
        "--energy-range", nargs=2, metavar=("LOW", "HIGH"), help="energies of the fit"
    )
    command.add_argument("--no-plots", action="store_true", help="draw no plots")
    command.add_argument(
        "--compare", action="store_true", help="compare with runs apart and all stacked"
    )
    command.add_argument(
        "--losses", type=Path, help="losses.ecsv of `obscluster assess`, to go beside"
    )
    add_trust(command)


def run(arguments: argparse.Namespace) -> int:
    """Fit, write, and tell."""
    from obscluster.reduction import make_reduce_config, read_reduce_config, require_gammapy

    require_gammapy()
    from obscluster.reduction import compare_groupings, fit_datasets, read_reduction, write_fit
    from obscluster.reduction.comparison import describe_comparison

    reduction = read_reduction(arguments.datasets, arguments.trust)
    settings = make_reduce_config(reduction.record["config"])
    if arguments.config is not None:
        settings = read_reduce_config(arguments.config)
    content = settings.fit.model_dump() | _asked(arguments)
    config = make_reduce_config({"fit": content}).fit
    output = arguments.output or arguments.datasets / "fit"
    with writing(output, arguments.overwrite, reduction.archive):
        # What is missing is told before the work, not after.
        losses = _losses(arguments.losses)
        if arguments.compare:
            reduction.require_runs()
        fit = fit_datasets(reduction.read(), config, reduction.position)
        comparison = None
        if arguments.compare:
            comparison = compare_groupings(reduction, config, losses=losses, progress=progress_bar)
        files = write_fit(
            fit, reduction, output, arguments.overwrite, not arguments.no_plots, comparison
        )
    print(fit)
    if fit.messages:
        say(f"  Gammapy gave {sum(fit.messages.values())} warnings, see fit.yaml")
    if comparison is not None:
        print("", describe_comparison(comparison), sep="\n")
    say("", f"results in {output}: {', '.join(sorted(files))}")
    return 0 if fit.success else 1


def _asked(arguments: argparse.Namespace) -> dict[str, Any]:
    names = ("model", "spatial", "reference")
    asked = {name: getattr(arguments, name) for name in names}
    if arguments.energy_range is not None:
        asked["min"], asked["max"] = arguments.energy_range
    return {name: value for name, value in asked.items() if value is not None}


def _losses(path: Path | None) -> Any:
    """Predicted growths of errors, None if nobody names them."""
    from obscluster.exceptions import ArchiveError, RequestError
    from obscluster.files.ecsv import read_ecsv

    try:
        return None if path is None else read_ecsv(path)
    except ArchiveError as error:
        raise RequestError(f"losses {error}") from None
