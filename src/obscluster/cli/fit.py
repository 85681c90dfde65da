"""``obscluster fit``: the joint fit of reduced groups."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from obscluster.cli.common import add_command, add_trust, progress_bar, writing
from obscluster.cli.terminal import say
from obscluster.exceptions import ArchiveError, RequestError

EXAMPLES = """\
examples:
  fit what `obscluster reduce` has written, as its description says:
    obscluster fit datasets/
  another spectrum, to somewhere else:
    obscluster fit datasets/ --model log-parabola -o log-parabola/
  several telescopes, each from its own archive and description, with flux points of a third:
    obscluster fit hess/ fact/ --flux-points hawc.ecsv --normalisation per-instrument -o joint/
  the same fit with runs apart, in groups, and all stacked (needs the datasets of the runs):
    obscluster fit datasets/ --compare
"""


def add(commands: Any) -> None:
    """Describe the arguments."""
    command = add_command(commands, "fit", "fit the reduced groups jointly", EXAMPLES, run)
    command.add_argument(
        "datasets", type=Path, nargs="+", help="what `obscluster reduce` has written"
    )
    command.add_argument(
        "-o", "--output", type=Path, help="directory for results (default: fit/ in the datasets)"
    )
    command.add_argument(
        "--flux-points",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="flux points of others to fit, too: FITS or ECSV in the format of GADF",
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
    command.add_argument(
        "--normalisation",
        choices=["shared", "per-group", "per-instrument"],
        help="one for all (default), or one of each group or instrument",
    )
    command.add_argument(
        "--parameters",
        choices=["shared", "per-group"],
        help="one spectrum for all (default), or a whole one of each group",
    )
    command.add_argument(
        "--light-curve",
        choices=["run", "night", "none"],
        help="flux against time (default: night; needs the datasets of the runs)",
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
    from obscluster.reduction import compare_groupings, join_reductions, read_reduction, write_fit
    from obscluster.reduction.comparison import describe_comparison

    several = len(arguments.datasets) > 1
    if several and arguments.output is None:
        raise RequestError("say where the fit of several reductions goes: --output DIR")
    if several and arguments.compare:
        raise RequestError("--compare is for one reduction; fit each of them with it")
    reductions = [read_reduction(path, arguments.trust) for path in arguments.datasets]
    config, asked = None, _asked(arguments)
    if arguments.config is not None or asked:
        settings = make_reduce_config(reductions[0].record["config"])
        if arguments.config is not None:
            settings = read_reduce_config(arguments.config)
        content = settings.fit.model_dump()
        if several and arguments.config is None:
            # Each is fitted in the energies of its own description.
            content |= {"min": None, "max": None}
        config = make_reduce_config({"fit": content | asked}).fit
    joint = join_reductions(reductions, config, arguments.flux_points)
    output = arguments.output or arguments.datasets[0] / "fit"
    with writing(output, arguments.overwrite, reductions[0].archive):
        # What is missing is told before the work, not after.
        losses = _losses(arguments.losses)
        if arguments.compare:
            reductions[0].require_runs()
        found = joint.examine(joint.fit())
        comparison = None
        if arguments.compare:
            comparison = compare_groupings(
                reductions[0], joint.config, losses=losses, progress=progress_bar
            )
        files = write_fit(
            found.fit,
            joint,
            output,
            arguments.overwrite,
            not arguments.no_plots,
            comparison,
            found,
        )
    print(found)
    fit = found.fit
    if fit.messages:
        say(f"  Gammapy gave {sum(fit.messages.values())} warnings, see fit.yaml")
    if comparison is not None:
        print("", describe_comparison(comparison), sep="\n")
    say("", f"results in {output}: {', '.join(sorted(files))}")
    return 0 if fit.success else 1


def _asked(arguments: argparse.Namespace) -> dict[str, Any]:
    names = ("model", "spatial", "reference", "normalisation", "parameters", "light_curve")
    asked = {name: getattr(arguments, name) for name in names}
    if arguments.energy_range is not None:
        asked["min"], asked["max"] = arguments.energy_range
    return {name: value for name, value in asked.items() if value is not None}


def _losses(path: Path | None) -> Any:
    """Predicted growths of errors, None if nobody names them."""
    from obscluster.files.ecsv import read_ecsv

    try:
        return None if path is None else read_ecsv(path)
    except ArchiveError as error:
        raise RequestError(f"losses {error}") from None
